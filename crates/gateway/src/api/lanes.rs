//! Lanes: the rule of each, what waits in it, and why. A key of one team sees only its team's requests.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use domain::{
    Catalog, Lane,
    catalog::{BadLanes, LaneClass, LaneRule},
    waits::Waits,
};
use engine::{
    admit::{Permission, Scope},
    lanes::{self, LaneError, Shown},
};
use serde::Serialize;
use tracing::info;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, read_json},
    page::Page,
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct LaneView {
    name: String,
    /// `file`, `api`, or `default` for those that exist when nobody declares any; `None`: it is no longer declared.
    managed_by: Option<&'static str>,
    /// `open`; `closed`: it takes no new work; `closing`: it was removed, and goes once nothing is left in it.
    state: &'static str,
    #[serde(flatten)]
    rule: RuleView,
    waiting: i64,
    retrying: i64,
    in_flight: i64,
    /// Slots of all workers together, and this lane's part of them.
    slots: i64,
    reserve_slots: i64,
    max_slots: i64,
    /// Of all slots, those in which its requests run.
    used_percent: f64,
    /// Teams with work in it.
    teams: i64,
    /// When the oldest job with waiting requests was submitted.
    oldest_at: Option<DateTime<Utc>>,
    waiting_reason: Option<String>,
    waits: Option<Waits>,
}

#[derive(Serialize, Default)]
struct RuleView {
    class: Option<LaneClass>,
    weight: Option<u32>,
    reserve_percent: Option<u8>,
    max_percent: Option<u8>,
    deadline_s: Option<u64>,
    max_attempts: Option<i16>,
    backoff_ms: Option<u64>,
    backoff_max_ms: Option<u64>,
    /// 0: never.
    aging_s: Option<u64>,
    closed: Option<bool>,
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
) -> Result<Json<Page<LaneView>>, Problem> {
    let data = views(&app, caller.scope(Permission::ReadLanes)).await?;
    Ok(Json(Page { data, next: None }))
}

pub async fn put(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(lane): Id<Lane>,
    body: Body,
) -> Result<Json<LaneView>, Problem> {
    let rule: LaneRule = read_json(body).await?;
    lanes::set(&app.engine, &lane, &rule, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, %lane, "A lane was set");
    let views = views(&app, Scope::All).await?;
    let view = views.into_iter().find(|view| view.name == lane.as_str());
    view.map(Json).ok_or_else(|| Problem::unavailable("The lane was set; this replica does not follow it yet."))
}

pub async fn remove(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(lane): Id<Lane>,
) -> Result<StatusCode, Problem> {
    lanes::remove(&app.engine, &lane, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, %lane, "A lane was removed");
    Ok(StatusCode::NO_CONTENT)
}

async fn views(app: &App, scope: Scope) -> Result<Vec<LaneView>, Problem> {
    let Shown { mut busy, declared, slots } = lanes::show(&app.engine, scope).await?;
    let catalog = app.engine.catalog.get();
    let in_force = Catalog { lanes: engine::config::merged(&declared), ..Catalog::default() };
    let in_force = in_force.lanes_in_force();
    let mut data = Vec::new();
    for (lane, rule) in &catalog.lanes {
        let at = busy.iter().position(|row| row.lane == lane.as_str());
        if at.is_none() && !in_force.contains_key(lane) {
            continue;
        }
        let mut view = LaneView::of(lane.as_str(), at.map(|at| busy.swap_remove(at)), slots);
        if in_force.contains_key(lane) {
            view.state = if rule.closed { "closed" } else { "open" };
            view.managed_by = Some(match declared.iter().find(|row| row.lane == *lane) {
                Some(row) if row.is_file_managed => "file",
                Some(_) => "api",
                None => "default",
            });
        }
        // As each replica rounds, but over all of them.
        view.reserve_slots = (slots * i64::from(rule.reserve_percent) + 99) / 100;
        view.max_slots = slots * i64::from(rule.max_percent) / 100;
        view.rule = RuleView::of(rule);
        data.push(view);
    }
    data.extend(busy.into_iter().map(|row| LaneView::of(&row.lane.clone(), Some(row), slots)));
    // Strict lanes first, then by weight: the order in which they are served.
    data.sort_by_key(|lane| (lane.rule.class != Some(LaneClass::Strict), std::cmp::Reverse(lane.rule.weight)));
    Ok(data)
}

impl RuleView {
    fn of(rule: &LaneRule) -> Self {
        let (first, longest) = rule.backoff();
        let whole = |ms: u128| u64::try_from(ms).ok();
        Self {
            class: Some(rule.class),
            weight: Some(rule.weight),
            reserve_percent: Some(rule.reserve_percent),
            max_percent: Some(rule.max_percent),
            deadline_s: rule.deadline_s,
            max_attempts: Some(rule.max_attempts()),
            backoff_ms: whole(first.as_millis()),
            backoff_max_ms: whole(longest.as_millis()),
            aging_s: Some(rule.aging().map_or(0, |after| after.as_secs())),
            closed: Some(rule.closed),
        }
    }
}

impl LaneView {
    fn of(name: &str, row: Option<store::lane::LaneView>, slots: i64) -> Self {
        let mut view = Self {
            name: name.to_owned(),
            managed_by: None,
            state: "closing",
            rule: RuleView::default(),
            waiting: 0,
            retrying: 0,
            in_flight: 0,
            slots,
            reserve_slots: 0,
            max_slots: 0,
            used_percent: 0.0,
            teams: 0,
            oldest_at: None,
            waiting_reason: None,
            waits: None,
        };
        if let Some(row) = row {
            (view.waiting, view.retrying, view.in_flight) = (row.waiting, row.retrying, row.in_flight);
            view.used_percent = if slots > 0 { (row.in_flight * 1000 / slots) as f64 / 10.0 } else { 0.0 };
            (view.teams, view.oldest_at) = (row.teams, row.oldest_at);
            view.waiting_reason = row.waits.as_ref().filter(|waits| waits.is_blocked()).map(Waits::text);
            view.waits = row.waits;
        }
        view
    }
}

fn refused(error: LaneError) -> Problem {
    match error {
        LaneError::FileManaged(_) => Problem::new(Kind::ManagedByFile, error),
        LaneError::NotFound(lane) => Problem::not_found(format_args!("lane {:?}", lane.as_str())),
        LaneError::Bad(BadLanes::Rule { key, .. }) => Problem::new(Kind::Invalid, error).with("param", key),
        LaneError::Bad(BadLanes::Reserves(_)) => Problem::new(Kind::Invalid, error).with("param", "reserve_percent"),
        LaneError::Bad(BadLanes::None) => Problem::new(Kind::Conflict, error),
        LaneError::HasKeys { ref keys, .. } => {
            let keys = keys.clone();
            Problem::new(Kind::Conflict, error).with("keys", keys)
        }
        LaneError::Unavailable(error) => error.into(),
    }
}
