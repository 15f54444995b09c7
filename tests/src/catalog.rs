//! Parts of a `tollway.toml`: what a story declares.

use std::fmt::Write;

use crate::simulator::Simulator;

/// What the simulated models cost, in USD per million tokens.
pub const PRICES: &str = "
[[prices]]
provider = 'sim'
model = 'sim-chat'
input = '0.5'
output = '1.5'
[[prices]]
provider = 'sim'
model = 'sim-embedding'
input = '0.02'
";

/// A deployment of the simulator. `more` are further keys, a line each.
pub fn deployment(simulator: &Simulator, name: &str, model: &str, more: &str) -> String {
    deployment_at(&simulator.base_url(name), name, model, more)
}

/// A deployment anywhere.
pub fn deployment_at(base_url: &str, name: &str, model: &str, more: &str) -> String {
    format!(
        "
[deployments.{name}]
kind = 'openai'
provider = 'sim'
base_url = '{base_url}'
model = '{model}'
{more}
"
    )
}

pub fn route(name: &str, deployments: &[&str]) -> String {
    format!("[routes.{name}]\ndeployments = {deployments:?}\n")
}

/// Route `chat` to the deployments `first` and `second`, and route `embed` to `vectors`; `more` is said of each of them.
pub fn usual(simulator: &Simulator, more: &str) -> String {
    let mut toml = PRICES.to_owned();
    for (name, model) in [("first", "sim-chat"), ("second", "sim-chat"), ("vectors", "sim-embedding")] {
        let _ = write!(toml, "{}", deployment(simulator, name, model, more));
    }
    toml + &route("chat", &["first", "second"]) + &route("embed", &["vectors"])
}

/// Route `chat` to the deployment `only`.
pub fn one(simulator: &Simulator, more: &str) -> String {
    PRICES.to_owned() + &deployment(simulator, "only", "sim-chat", more) + &route("chat", &["only"])
}
