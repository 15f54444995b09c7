//! Lanes: what waits in each, and why. A key of one team sees its own team's part.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use domain::catalog::LaneClass;
use engine::admit::Permission;
use serde::Serialize;

use crate::{app::App, auth::Who, page::Page, problem::Problem};

#[derive(Serialize)]
pub struct LaneView {
    name: String,
    /// `None`: the operator no longer declares it, and what is in it still drains.
    class: Option<LaneClass>,
    weight: Option<u32>,
    reserve_percent: Option<u8>,
    waiting: i64,
    retrying: i64,
    in_flight: i64,
    /// Teams with work in it.
    teams: i64,
    /// When the oldest job with waiting requests was submitted.
    oldest_at: Option<DateTime<Utc>>,
    waiting_reason: Option<String>,
}

pub async fn list(State(app): State<App>, Who(caller): Who) -> Result<Json<Page<LaneView>>, Problem> {
    let mut busy = engine::jobs::lanes(&app.engine, caller.scope(Permission::ReadLanes)).await?;
    let catalog = app.engine.catalog.get();
    let mut data = Vec::new();
    for (lane, rule) in &catalog.lanes {
        let at = busy.iter().position(|row| row.lane == lane.as_str());
        let mut view = LaneView::of(lane.as_str(), at.map(|at| busy.swap_remove(at)));
        view.class = Some(rule.class);
        view.weight = Some(rule.weight);
        view.reserve_percent = Some(rule.reserve_percent);
        data.push(view);
    }
    data.extend(busy.into_iter().map(|row| LaneView::of(&row.lane.clone(), Some(row))));
    // Strict lanes first, then by weight: the order in which they are served.
    data.sort_by_key(|lane| (lane.class != Some(LaneClass::Strict), std::cmp::Reverse(lane.weight)));
    Ok(Json(Page { data, next: None }))
}

impl LaneView {
    fn of(name: &str, row: Option<store::job::LaneView>) -> Self {
        let name = name.to_owned();
        let (class, weight, reserve_percent) = (None, None, None);
        match row {
            Some(row) => Self {
                name,
                class,
                weight,
                reserve_percent,
                waiting: row.waiting,
                retrying: row.retrying,
                in_flight: row.in_flight,
                teams: row.teams,
                oldest_at: row.oldest_at,
                waiting_reason: row.waiting_reason,
            },
            None => Self {
                name,
                class,
                weight,
                reserve_percent,
                waiting: 0,
                retrying: 0,
                in_flight: 0,
                teams: 0,
                oldest_at: None,
                waiting_reason: None,
            },
        }
    }
}
