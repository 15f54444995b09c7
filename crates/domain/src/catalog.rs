//! What the operator declares: lanes, deployments, routes, teams, own prices. One version of it is active at a time and
//! all replicas follow it. Secrets are references here, never values.

mod lane;

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

pub use self::lane::{BadLanes, LaneClass, LaneRule, check_lanes};
use crate::{budget::Budget, lane::Lane, money::Total};

/// Keys are names. In TOML `[lanes.NAME]`, `[deployments.NAME]`, `[routes.NAME]`, `[teams.NAME]`, `[[prices]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    pub lanes: BTreeMap<Lane, LaneRule>,
    pub deployments: BTreeMap<String, Deployment>,
    pub routes: BTreeMap<String, Route>,
    pub teams: BTreeMap<String, TeamRule>,
    pub prices: Vec<OwnPrice>,
    /// Left out of a document that says nothing of it, so that an older Tollway still reads that.
    #[serde(skip_serializing_if = "is_default")]
    pub quotas: Quotas,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<String, Budget>,
    #[serde(skip_serializing_if = "is_default")]
    pub approval: Approval,
}

/// Jobs that wait until somebody approves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Approval {
    /// Those that are expected to cost more; left out: none. A team may have an amount of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_usd: Option<Total>,
}

/// The default quota of a team: what it may have waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Requests of jobs that have not ended.
    pub pending_requests: u64,
    /// Bodies as they are stored, also of ended jobs until they are deleted or past their retention.
    pub pending_gb: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { pending_requests: 20_000_000, pending_gb: 40 }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Caps of one scope; what is absent is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Caps {
    /// Calls at the same time.
    pub slots: Option<i64>,
    /// Requests in any minute.
    pub rpm: Option<i64>,
    /// Tokens in any minute, input and output.
    pub tpm: Option<i64>,
}

impl Caps {
    /// Those that are set, each with its kind.
    pub fn each(self) -> impl Iterator<Item = (&'static str, i64)> {
        let all = [("slots", self.slots), ("rpm", self.rpm), ("tpm", self.tpm)];
        all.into_iter().filter_map(|(kind, cap)| Some((kind, cap?)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// OpenAI's API, or anything that speaks it.
    Openai,
    /// Anthropic's Messages API: chat completions are translated there and back.
    Anthropic,
}

impl ProviderKind {
    /// Each kind, at the index that is its number: `ALL[kind as usize] == kind`.
    pub const ALL: [Self; 2] = [Self::Openai, Self::Anthropic];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// Provider + model + credential + limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    pub kind: ProviderKind,
    /// The provider's name in prices and reports, such as `openai`; the kind's name when absent.
    #[serde(default)]
    pub provider: Option<String>,
    /// Such as `https://api.openai.com/v1` or `https://api.anthropic.com/v1`: everything before `/chat/completions` or `/messages`.
    pub base_url: String,
    /// The provider's name for the model.
    pub model: String,
    /// `env:NAME` or `file:PATH`; absent for servers that ask for no key.
    #[serde(default)]
    pub credential: Option<String>,
    #[serde(default)]
    pub slots: Option<i64>,
    #[serde(default)]
    pub rpm: Option<i64>,
    #[serde(default)]
    pub tpm: Option<i64>,
    /// The most tokens the model writes in one answer. Sent where the wire format requires a maximum and the request names none. As left
    /// out, an older Tollway reads it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    #[serde(default = "default_connect_ms")]
    pub connect_timeout_ms: u64,
    /// The longest silence between two bytes.
    #[serde(default = "default_read_ms")]
    pub read_timeout_ms: u64,
    #[serde(default = "default_total_ms")]
    pub total_timeout_ms: u64,
    /// The longest event of a stream that is taken, in MiB; an image in base64 is one. As left out, an older Tollway reads it too.
    #[serde(default = "default_event_mb", skip_serializing_if = "is_default_event")]
    pub max_event_mb: u64,
    /// The largest answer that is taken, in MiB, unpacked.
    #[serde(default = "default_answer_mb", skip_serializing_if = "is_default_answer")]
    pub max_answer_mb: u64,
    /// What finance calls the account that pays for it.
    #[serde(default)]
    pub billing_account: Option<String>,
    #[serde(default)]
    pub provider_project: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
}

impl Deployment {
    pub fn provider_name(&self) -> &str {
        self.provider.as_deref().unwrap_or(self.kind.as_str())
    }
    pub fn caps(&self) -> Caps {
        Caps { slots: self.slots, rpm: self.rpm, tpm: self.tpm }
    }
}

/// A model name as callers write it → ordered deployments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Tried in this order.
    pub deployments: Vec<String>,
    /// Calls may run although no price is known; their charge is flagged `unpriced`.
    #[serde(default)]
    pub allow_unpriced: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeamRule {
    /// Share of a lane beside other teams.
    pub weight: u32,
    pub slots: Option<i64>,
    pub rpm: Option<i64>,
    pub tpm: Option<i64>,
    /// Requests of its jobs that have not ended; else as in [`Quotas`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_requests: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_gb: Option<i64>,
    /// Its jobs that are expected to cost more wait for approval; else as in [`Approval`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_above_usd: Option<Total>,
    /// Caps inside one lane.
    pub lanes: BTreeMap<Lane, Caps>,
}

impl Default for TeamRule {
    fn default() -> Self {
        Self {
            weight: 1,
            slots: None,
            rpm: None,
            tpm: None,
            pending_requests: None,
            pending_gb: None,
            approve_above_usd: None,
            lanes: BTreeMap::new(),
        }
    }
}

impl TeamRule {
    pub fn caps(&self) -> Caps {
        Caps { slots: self.slots, rpm: self.rpm, tpm: self.tpm }
    }
}

/// A price for an own or a negotiated model: USD per million tokens, as decimal text. `free = true` is the only way to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPrice {
    pub provider: String,
    /// The deployment's model, exactly.
    pub model: String,
    #[serde(default)]
    pub free: bool,
    #[serde(default)]
    pub input: Option<String>,
    #[serde(default)]
    pub output: Option<String>,
    #[serde(default)]
    pub cache_read: Option<String>,
    #[serde(default)]
    pub cache_write: Option<String>,
    /// First UTC day it holds; always, when absent.
    #[serde(default, deserialize_with = "first_day")]
    pub from: Option<chrono::NaiveDate>,
}

fn first_day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<chrono::NaiveDate>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let day = |text: String| {
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not a day; write it as 2026-01-31")))
    };
    text.map(day).transpose()
}

fn default_connect_ms() -> u64 {
    5_000
}
fn default_read_ms() -> u64 {
    60_000
}
fn default_total_ms() -> u64 {
    600_000
}

fn default_event_mb() -> u64 {
    16
}
fn default_answer_mb() -> u64 {
    64
}
fn is_default_event(mb: &u64) -> bool {
    *mb == default_event_mb()
}
fn is_default_answer(mb: &u64) -> bool {
    *mb == default_answer_mb()
}

impl Catalog {
    /// The lanes of this catalog, or those by default when it names none.
    pub fn lanes_in_force(&self) -> Cow<'_, BTreeMap<Lane, LaneRule>> {
        if self.lanes.is_empty() { Cow::Owned(Self::default_lanes()) } else { Cow::Borrowed(&self.lanes) }
    }

    /// The lanes that exist when the operator names none.
    pub fn default_lanes() -> BTreeMap<Lane, LaneRule> {
        BTreeMap::from([
            (Lane::prod(), LaneRule { reserve_percent: 10, ..LaneRule::new(LaneClass::Strict, 1) }),
            (Lane::standard(), LaneRule::new(LaneClass::Weighted, 4)),
            (Lane::bulk(), LaneRule::new(LaneClass::Weighted, 1)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_at_its_number_and_has_its_name() {
        for (number, kind) in ProviderKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let named: ProviderKind = serde_json::from_value(kind.as_str().into()).unwrap();
            assert_eq!(named, kind);
        }
    }
}
