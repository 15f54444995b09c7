//! `tollway lanes`.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, count, duration, optional},
};

#[derive(Debug, Args)]
pub struct Lanes {}

#[derive(Debug, Serialize, Deserialize)]
struct Lane {
    name: String,
    class: Option<String>,
    weight: Option<u32>,
    reserve_percent: Option<u8>,
    waiting: i64,
    retrying: i64,
    in_flight: i64,
    teams: i64,
    oldest_at: Option<DateTime<Utc>>,
    waiting_reason: Option<String>,
}

pub async fn run(_: Lanes, common: &Common) -> Outcome {
    let page: Page<Lane> = Client::find()?.get("api/v1/lanes", &()).await?;
    if common.output == Format::Json {
        output::json(&page.data)?;
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    let rows = page.data.into_iter().map(|lane| {
        vec![
            lane.name,
            optional(lane.class),
            optional(lane.weight),
            lane.reserve_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
            count(lane.waiting),
            count(lane.retrying),
            count(lane.in_flight),
            count(lane.teams),
            optional(lane.oldest_at.map(|at| duration((now - at).num_seconds() as f64))),
            optional(lane.waiting_reason),
        ]
    });
    let columns = [
        ("lane", Align::Left),
        ("class", Align::Left),
        ("weight", Align::Right),
        ("reserve", Align::Right),
        ("waiting", Align::Right),
        ("retrying", Align::Right),
        ("in flight", Align::Right),
        ("teams", Align::Right),
        ("oldest", Align::Right),
        ("waits for", Align::Left),
    ];
    output::table(&columns, rows.collect(), "There are no lanes.")?;
    Ok(Exit::Done)
}
