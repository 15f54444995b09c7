//! How a deployment behaves: what a user writes in a file, and what `/sim/config` shows and takes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::latency::Latency;

/// The longest answer and the widest vector that can be configured: 64 MiB, 8,192 floats.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
pub const MAX_DIMENSIONS: usize = 8_192;

/// The behaviour of one deployment, and, at the start, of all of them.
///
/// Every field may be left out. The fields are flat on purpose: `PATCH /sim/config` replaces the fields it names, and
/// `null` brings one back to its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time from the end of the request to the first byte of the answer. Default: none.
    pub latency: Latency,
    /// Completion tokens of a chat answer, unless the request's own maximum is lower. Default 16.
    pub answer_tokens: u64,
    /// Size of a plain chat answer's body in bytes, to the byte where the JSON around the text leaves room. Default: the
    /// text has four bytes a token. A streamed answer's text has this size.
    pub answer_bytes: Option<usize>,
    /// Floats in a vector when the request does not say `dimensions`. Default 64.
    pub embedding_dimensions: usize,
    /// What `GET /v1/models` lists. Calls may name any model.
    pub models: Vec<String>,

    /// Share of calls, 0 to 1, answered with status 500.
    pub error_rate: f64,
    /// Share of calls answered with status 200 and broken JSON.
    pub garbage_rate: f64,
    /// Share of calls answered with status 200 and an HTML page, as a proxy in the way would.
    pub wrong_type_rate: f64,
    /// Share of calls whose answer stops in the middle: half the announced body, then the socket closes.
    pub cut_rate: f64,
    /// Share of calls that are never answered.
    pub hang_rate: f64,

    /// Times at which calls are refused. They count from the server's start, or from when they were last set.
    pub throttle: Vec<Throttle>,
    /// Calls a minute beyond which 429 is answered, counted from a minute's first call. Refused calls do not count.
    pub rpm: Option<u64>,
    /// The key that calls must carry as `Authorization: Bearer`. Anything else gets 401. It is shown in `/sim/config`.
    pub require_key: Option<String>,

    /// Pieces into which a streamed answer's text is divided. Default 8.
    pub stream_chunks: usize,
    /// Pause between two events of a stream, in milliseconds. Default 0: the whole stream is written at once.
    pub stream_pace_ms: f64,
    /// Start of all chance in this deployment. Default 0.
    pub seed: u64,

    /// A file to which the journal is appended as well. Only at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_path: Option<PathBuf>,
    /// Other deployments: name → the fields in which it differs from this one. Only at the start.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub deployments: BTreeMap<String, Map<String, Value>>,
}

/// A time during which calls are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Usually 429 (too many requests) or 529 (overloaded); any error status will do.
    pub status: u16,
    #[serde(default)]
    pub from_ms: u64,
    pub for_ms: u64,
    /// Sent as `Retry-After`, in seconds; left out when absent.
    #[serde(default)]
    pub retry_after_s: Option<u64>,
    /// Share of calls that are refused, 0 to 1. Default: all.
    #[serde(default = "all")]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Unknown field, wrong type or broken JSON; the text names it.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    #[error("{field} must be {allowed}")]
    Range { field: &'static str, allowed: &'static str },
    #[error("{0} can only be set when the simulator starts")]
    OnlyAtStart(&'static str),
    #[error("deployment name {0:?} must be 1 to 64 letters, digits, '.', '_' or '-'")]
    Name(String),
    #[error("deployment {name:?}: {source}")]
    Deployment { name: String, source: Box<ConfigError> },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latency: Latency::default(),
            answer_tokens: 16,
            answer_bytes: None,
            embedding_dimensions: 64,
            models: vec!["sim-chat".into(), "sim-embedding".into()],
            error_rate: 0.0,
            garbage_rate: 0.0,
            wrong_type_rate: 0.0,
            cut_rate: 0.0,
            hang_rate: 0.0,
            throttle: Vec::new(),
            rpm: None,
            require_key: None,
            stream_chunks: 8,
            stream_pace_ms: 0.0,
            seed: 0,
            journal_path: None,
            deployments: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Says what is wrong with the values, deployments included.
    pub fn check(&self) -> Result<(), ConfigError> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let rates = [self.error_rate, self.garbage_rate, self.wrong_type_rate, self.cut_rate, self.hang_rate];
        let require = |holds: bool, field, allowed| holds.then_some(()).ok_or(ConfigError::Range { field, allowed });
        require(self.latency.is_sound(), "latency", "0 to 600,000 ms, the smaller figure first")?;
        require(self.answer_tokens <= 1_000_000, "answer_tokens", "at most 1,000,000")?;
        require(self.answer_bytes.is_none_or(|n| n <= MAX_ANSWER_BYTES), "answer_bytes", "at most 64 MiB")?;
        require((1..=MAX_DIMENSIONS).contains(&self.embedding_dimensions), "embedding_dimensions", "1 to 8,192")?;
        require(
            // Shares written in decimals may add up to a hair more than 1.
            rates.into_iter().all(share) && rates.iter().sum::<f64>() < 1.000_001,
            "error_rate, garbage_rate, wrong_type_rate, cut_rate and hang_rate",
            "shares from 0 to 1 that add up to at most 1",
        )?;
        require(
            self.throttle.iter().all(|t| (400..600).contains(&t.status)),
            "throttle.status",
            "an error status, 400 to 599",
        )?;
        require(self.throttle.iter().all(|t| share(t.share)), "throttle.share", "a share from 0 to 1")?;
        require((1..=10_000).contains(&self.stream_chunks), "stream_chunks", "1 to 10,000")?;
        require((0.0..=600_000.0).contains(&self.stream_pace_ms), "stream_pace_ms", "0 to 600,000")?;
        self.deployments.keys().try_for_each(|name| {
            check_name(name)?;
            self.of_deployment(name).map(drop)
        })
    }

    /// The start configuration of the deployment `name`; one that `deployments` does not list behaves like the default.
    pub(crate) fn of_deployment(&self, name: &str) -> Result<Config, ConfigError> {
        let base = Config { journal_path: None, deployments: BTreeMap::new(), ..self.clone() };
        match self.deployments.get(name) {
            None => Ok(base),
            Some(fields) => base
                .patched(fields.clone())
                .map_err(|source| ConfigError::Deployment { name: name.into(), source: Box::new(source) }),
        }
    }

    /// This configuration with the named fields replaced; `null` stands for a field's default.
    pub(crate) fn patched(&self, fields: Map<String, Value>) -> Result<Config, ConfigError> {
        let Value::Object(mut merged) = serde_json::to_value(self)? else {
            unreachable!("a struct with named fields serializes as an object")
        };
        for (field, value) in fields {
            match value {
                Value::Null => merged.remove(&field),
                value => merged.insert(field, value),
            };
        }
        serde_json::from_value::<Config>(Value::Object(merged))?.steerable()
    }

    /// Accepts this as the new configuration of a running deployment.
    pub(crate) fn steerable(self) -> Result<Config, ConfigError> {
        if self.journal_path.is_some() {
            return Err(ConfigError::OnlyAtStart("journal_path"));
        }
        if !self.deployments.is_empty() {
            return Err(ConfigError::OnlyAtStart("deployments"));
        }
        self.check()?;
        Ok(self)
    }
}

/// Names stand in URLs and in the journal as they are.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(ConfigError::Name(name.into()))
}

#[cfg(test)]
mod tests;
