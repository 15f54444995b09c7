//! `tollway lanes set`.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{
    Common, Exit, Format, Outcome,
    client::{Client, segment},
    output::{self, line},
};

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    Strict,
    Weighted,
}

/// As the API takes it; the gateway checks the values.
#[derive(Debug, Args, Serialize)]
pub struct Set {
    #[serde(skip)]
    name: String,
    /// strict: served before every weighted lane
    #[arg(long, value_enum, default_value = "weighted", hide_possible_values = true)]
    class: Class,
    /// Weight among the weighted lanes
    #[arg(long, value_name = "N", default_value_t = 1)]
    weight: u32,
    /// Percent of all slots and deployments kept for it
    #[arg(long = "reserve", value_name = "PERCENT", default_value_t = 0)]
    reserve_percent: u8,
    /// Maximum percent of slots and quotas
    #[arg(long = "max", value_name = "PERCENT", default_value_t = 100)]
    max_percent: u8,
    /// Deadline of jobs that name none, in seconds from their start
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<u64>,
    /// Failed tries of a request before it is dead-lettered
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i16>,
    /// First back-off between tries; doubles with each try
    #[arg(long, value_name = "MILLISECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_ms: Option<u64>,
    /// Longest back-off between tries
    #[arg(long, value_name = "MILLISECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_max_ms: Option<u64>,
    /// Time without a slot before one request goes first; 0: never
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    aging_s: Option<u64>,
    /// Accept no new work; requests in it are served
    #[arg(long)]
    closed: bool,
}

pub async fn run(client: &Client, set: Set, common: &Common) -> Outcome {
    let path = format!("api/v1/lanes/{}", segment(&set.name));
    let lane: Value = client.read(client.request(Method::PUT, &path).json(&set)).await?;
    match common.output {
        Format::Json => output::json(&lane)?,
        _ => line(format!("Lane {} is set; all replicas follow within a second.", set.name))?,
    }
    Ok(Exit::Done)
}
