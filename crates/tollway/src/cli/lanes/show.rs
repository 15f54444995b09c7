//! `tollway lanes`: a line a lane.

use chrono::{DateTime, Utc};
use domain::waits::Waits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cli::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, count, duration, optional},
};

#[derive(Debug, Serialize, Deserialize)]
struct Lane {
    name: String,
    class: Option<String>,
    state: Option<String>,
    weight: Option<u32>,
    waiting: i64,
    retrying: i64,
    in_flight: i64,
    slots: i64,
    reserve_slots: i64,
    max_slots: i64,
    teams: i64,
    oldest_at: Option<DateTime<Utc>>,
    waits: Option<Waits>,
    /// What the table has no room for.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub async fn run(client: &Client, common: &Common) -> Outcome {
    let page: Page<Lane> = client.get("api/v1/lanes", &()).await?;
    if common.output == Format::Json {
        output::json(&page.data)?;
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    let rows = page.data.into_iter().map(|lane| row(lane, now)).collect();
    let columns = [
        ("lane", Align::Left),
        ("class", Align::Left),
        ("weight", Align::Right),
        ("waiting", Align::Right),
        ("retrying", Align::Right),
        ("in flight", Align::Right),
        ("reserve", Align::Right),
        ("most", Align::Right),
        ("teams", Align::Right),
        ("oldest", Align::Right),
        ("waits for", Align::Left),
    ];
    output::table(&columns, rows, "There are no lanes.")?;
    Ok(Exit::Done)
}

fn row(lane: Lane, now: DateTime<Utc>) -> Vec<String> {
    // Calls that run already fill the reserve first.
    let reserve = match lane.reserve_slots {
        0 => "-".to_owned(),
        slots => format!("{} of {}", lane.in_flight.min(slots), slots),
    };
    vec![
        lane.name,
        match (lane.class, lane.state.filter(|state| state != "open")) {
            (Some(class), Some(state)) => format!("{class}, {state}"),
            (class, state) => optional(class.or(state)),
        },
        optional(lane.weight),
        count(lane.waiting),
        count(lane.retrying),
        count(lane.in_flight),
        reserve,
        if lane.max_slots < lane.slots { count(lane.max_slots) } else { "-".to_owned() },
        count(lane.teams),
        optional(lane.oldest_at.map(|at| duration((now - at).num_seconds() as f64))),
        optional(lane.waits.map(|waits| waits.text())),
    ]
}
