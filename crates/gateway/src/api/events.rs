//! A job's progress as server-sent events: one each second in which something changed, at last `end`.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::{Job, JobId, job::Progress, progress::ProgressRate};
use engine::{
    admit::{Permission, Scope},
    jobs,
};
use futures::{Stream, stream};

use super::jobs::no_job;
use crate::{App, auth::CurrentCaller, input::Id, problem::Problem, standing::shutting_down};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Proxies cut connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub async fn follow(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = caller.scope(Permission::ReadJobs);
    let first = jobs::get(&app.engine, scope, id).await?.ok_or_else(|| no_job(id))?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if first.state.is_terminal() && seen.as_ref() == Some(&event_id(&first)) {
        // It has the end already; this is how a browser is told to come back no more.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = events(app, scope, first, seen);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back until its buffer is full.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Watch {
    app: App,
    scope: Scope,
    id: JobId,
    /// The event that the client has.
    seen: Option<String>,
    /// Known already, and not yet told.
    job: Option<Job>,
    tick: tokio::time::Interval,
}

fn events(app: App, scope: Scope, first: Job, seen: Option<String>) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let watch = Watch { app, scope, id: first.id, seen, job: Some(first), tick };
    stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        let (event, is_last) = watch.next().await?;
        Some((Ok(event), (!is_last).then_some(watch)))
    })
}

impl Watch {
    /// The next event and whether it is the last; `None` when the job is gone. A shutdown ends them with an error.
    async fn next(&mut self) -> Option<(Event, bool)> {
        loop {
            tokio::select! {
                _ = self.tick.tick() => {}
                () = self.app.stopping.cancelled() => {
                    let event = Event::default().event("error").json_data(shutting_down().json()).ok()?;
                    return Some((event, true));
                }
            }
            let job = match self.job.take() {
                Some(job) => job,
                None => match jobs::get(&self.app.engine, self.scope, self.id).await {
                    Ok(Some(job)) => job,
                    Ok(None) => return None,
                    // It will be back; the client sees the keep-alive.
                    Err(_) => continue,
                },
            };
            let is_last = job.state.is_terminal();
            let event_id = event_id(&job);
            if self.seen.as_ref() == Some(&event_id) {
                continue;
            }
            let event = Event::default().event(if is_last { "end" } else { "progress" }).id(event_id.as_str());
            self.seen = Some(event_id);
            return Some((event.json_data(Progress::from(&job)).ok()?, is_last));
        }
    }
}

/// Names what an event shows, so that equal ones are sent once, also over a reconnection and by another replica: a client that
/// says which it saw last is sent what is different now. Counts only grow, so what it missed in between is in that one.
fn event_id(job: &Job) -> String {
    let mut shown = Progress::from(job);
    let moves = shown.pace.rate_per_s > 0.0;
    // These change with time alone.
    shown.pace = ProgressRate::default();
    if let Some(waits) = &mut shown.waits {
        waits.until = None;
    }
    let mut hasher = DefaultHasher::new();
    // Plain data always serializes.
    (serde_json::to_string(&shown).unwrap_or_default(), moves).hash(&mut hasher);
    format!("{}.{:016x}", job.state.as_str(), hasher.finish())
}
