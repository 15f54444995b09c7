//! What calls of a model were like of late: what is expected of requests that set no maximum.

use admission::catalog::ActiveRoute;
use serde::Serialize;
use store::recent::RecentCalls;

/// How many recent calls an estimate is based on.
pub(crate) const RECENT: i64 = 20_000;
/// Output tokens of a request whose model nobody called of late.
pub const ASSUMED_OUTPUT: i64 = 512;
/// Fewer calls say little.
const ENOUGH_CALLS: i64 = 20;

/// Where the expected output tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The team's own calls of that model of late.
    OwnCalls,
    /// Those of all teams.
    AllCalls,
    /// There are none.
    Assumed,
}

/// Output tokens that are expected of a request of the route that sets no maximum.
pub fn usual_output(recent: &[RecentCalls], route: &ActiveRoute) -> i64 {
    let first = route.deployments.first().map(|deployment| &*deployment.name);
    usual(recent, &route.name, first).map_or(ASSUMED_OUTPUT, |(mean, _)| mean.output_tokens)
}

/// What calls of the model were like: the team's own by the deployment that serves it first, else by any, else everybody's.
pub fn usual(recent: &[RecentCalls], model: &str, first: Option<&str>) -> Option<(RecentCalls, Basis)> {
    let sources = [(true, first), (true, None), (false, first), (false, None)];
    sources.into_iter().find_map(|(is_own, by)| {
        let counts = |one: &&RecentCalls| {
            one.model == model && by.is_none_or(|by| one.deployment == by) && (one.is_own || !is_own)
        };
        let mean = mean(&recent.iter().filter(counts).collect::<Vec<_>>());
        let basis = if is_own { Basis::OwnCalls } else { Basis::AllCalls };
        (mean.calls >= ENOUGH_CALLS).then_some((mean, basis))
    })
}

/// Of several, by their numbers of calls.
fn mean(of: &[&RecentCalls]) -> RecentCalls {
    let calls: i64 = of.iter().map(|one| one.calls).sum();
    let weighted =
        |value: fn(&RecentCalls) -> i64| of.iter().map(|one| one.calls * value(one)).sum::<i64>() / calls.max(1);
    RecentCalls {
        deployment: String::new(),
        model: String::new(),
        is_own: false,
        calls,
        output_tokens: weighted(|one| one.output_tokens),
        latency_ms: weighted(|one| one.latency_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(deployment: &str, is_own: bool, calls: i64, output_tokens: i64) -> RecentCalls {
        RecentCalls { deployment: deployment.into(), model: "m".into(), is_own, calls, output_tokens, latency_ms: 10 }
    }

    #[test]
    fn the_nearest_calls_say_what_is_usual() {
        let told =
            |recent: &[RecentCalls]| usual(recent, "m", Some("first")).map(|(mean, basis)| (mean.output_tokens, basis));
        let (own, own_other) = (calls("first", true, 20, 100), calls("second", true, 60, 200));
        let others = calls("first", false, 1_000, 300);
        assert_eq!(told(&[own.clone(), own_other.clone(), others.clone()]), Some((100, Basis::OwnCalls)));
        let few = RecentCalls { calls: 19, ..own };
        assert_eq!(told(&[few.clone(), own_other, others.clone()]), Some((175, Basis::OwnCalls)));
        assert_eq!(told(&[few.clone(), others]), Some((296, Basis::AllCalls)));
        assert_eq!(told(&[few]), None);
        assert_eq!(usual(&[calls("first", true, 99, 1)], "other", Some("first")), None);
    }
}
