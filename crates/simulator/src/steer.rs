//! `/sim/…`: looking at the simulator and changing it while it runs. Unprotected: listen on a private address.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{Config, ConfigError, Throttle};
use crate::deployment::Deployment;
use crate::incoming::{self, Unreadable};
use crate::reply::{self, JournalBody, Reply};
use crate::sim::{DEFAULT, Sim};
use crate::wire::refusal::Refusal;

/// `POST /sim/outage`: calls are refused from now on, for a while.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    #[serde(default = "default_name")]
    deployment: String,
    status: u16,
    for_ms: u64,
    retry_after_s: Option<u64>,
    share: Option<f64>,
}

fn default_name() -> String {
    DEFAULT.into()
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Refusal::bad_request(error.to_string())
    }
}

pub async fn handle(sim: Arc<Sim>, request: Request<Incoming>) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let body = match incoming::read(body).await {
        Ok(body) => body,
        Err(Unreadable::TooLarge | Unreadable::Gone) => {
            return reply::refusal(&Refusal::bad_request("The body cannot be read to its end"));
        }
    };
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or(""));
    let result = match (path, &head.method) {
        ("/sim/config", method) => config(&sim, &sim.default_deployment(), method, &body),
        ("/sim/outage", &Method::POST) => outage(&sim, &body),
        ("/sim/reset", &Method::POST) => reset(&sim, query),
        ("/sim/journal", &Method::GET) => journal(sim, query),
        ("/sim/stats", &Method::GET) => Ok(stats(sim).await),
        ("/sim/outage" | "/sim/reset", _) => Err(Refusal::method("POST")),
        ("/sim/journal" | "/sim/stats", _) => Err(Refusal::method("GET")),
        (other, method) => match named(other) {
            Some(name) => deployment(&sim, name).and_then(|d| config(&sim, &d, method, &body)),
            None => Err(Refusal::not_found(path)),
        },
    };
    result.unwrap_or_else(|refusal| reply::refusal(&refusal))
}

/// NAME of `/sim/d/NAME/config`.
fn named(path: &str) -> Option<&str> {
    path.strip_prefix("/sim/d/")?.strip_suffix("/config")
}

fn deployment(sim: &Sim, name: &str) -> Result<Arc<Deployment>, Refusal> {
    sim.deployment(name).ok_or_else(|| {
        let message =
            format!("There is no deployment {name:?}, and none can be made: the name is unusable, or there are 1,000");
        Refusal::new(404, "invalid_request_error", message)
    })
}

fn config(sim: &Sim, deployment: &Deployment, method: &Method, body: &[u8]) -> Result<Response<Reply>, Refusal> {
    let bad_body = |error| Refusal::bad_body(&error);
    match *method {
        Method::GET => {}
        Method::PUT => {
            let config: Config = serde_json::from_slice(body).map_err(bad_body)?;
            deployment.set(config.steerable()?, sim.journal.now_us());
        }
        Method::PATCH => {
            let fields: Map<String, Value> = serde_json::from_slice(body).map_err(bad_body)?;
            deployment.patch(fields, sim.journal.now_us())?;
        }
        _ => return Err(Refusal::method("GET, PUT or PATCH")),
    }
    show(deployment)
}

fn show(deployment: &Deployment) -> Result<Response<Reply>, Refusal> {
    let body = serde_json::to_vec_pretty(&deployment.plan().config).map_err(ConfigError::from)?;
    Ok(reply::json(200, body))
}

fn outage(sim: &Sim, body: &[u8]) -> Result<Response<Reply>, Refusal> {
    let outage: Outage = serde_json::from_slice(body).map_err(|error| Refusal::bad_body(&error))?;
    let throttle = Throttle {
        status: outage.status,
        from_ms: 0,
        for_ms: outage.for_ms,
        retry_after_s: outage.retry_after_s,
        share: outage.share.unwrap_or(1.0),
    };
    let probe = Config { throttle: vec![throttle.clone()], ..Config::default() };
    probe.check()?;
    let deployment = deployment(sim, &outage.deployment)?;
    deployment.add_throttle(throttle, sim.journal.now_us());
    show(&deployment)
}

fn reset(sim: &Sim, query: &str) -> Result<Response<Reply>, Refusal> {
    let (config, journal) = match query {
        "" => (true, true),
        "only=config" => (true, false),
        "only=journal" => (false, true),
        _ => return Err(Refusal::bad_request("Use ?only=config, ?only=journal, or no query for both")),
    };
    if config {
        sim.reset_config();
    }
    if journal {
        sim.reset_journal();
    }
    let mut response = reply::json(204, Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn journal(sim: Arc<Sim>, query: &str) -> Result<Response<Reply>, Refusal> {
    let next = match query.strip_prefix("from=").map(str::parse) {
        Some(Ok(from)) => from,
        None if query.is_empty() => 0,
        _ => return Err(Refusal::bad_request("Use ?from=SEQ, a call's number, or no query")),
    };
    let until = sim.journal.next_seq();
    let lines = JournalBody { sim, next, until };
    Ok(reply::response(200, "application/jsonl", Reply::Journal(lines)))
}

/// Counting repeated ids takes about 0.1 µs a new call: off the threads that answer calls.
async fn stats(sim: Arc<Sim>) -> Response<Reply> {
    let count = move || serde_json::to_vec(&sim.journal.stats());
    match tokio::task::spawn_blocking(count).await {
        Ok(Ok(body)) => reply::json(200, body),
        Ok(Err(_)) | Err(_) => reply::refusal(&Refusal::server_error()),
    }
}
