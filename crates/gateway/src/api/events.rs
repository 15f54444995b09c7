//! A job's progress as server-sent events: one each second in which something changed, at last `end`.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::{Counts, Job, JobId, JobState, money::Total};
use engine::{
    admit::{Permission, Scope},
    jobs,
};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use super::jobs::no_job;
use crate::{app::App, auth::Who, input::Id, problem::Problem};

const TICK: Duration = Duration::from_secs(1);
/// Proxies cut connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The rate is that of the last so many ticks.
const WINDOW: usize = 10;

#[derive(Serialize)]
struct Progress {
    state: JobState,
    counts: Counts,
    in_flight: i64,
    cost_usd: Total,
    unpriced: i64,
    waiting_reason: Option<String>,
    /// Requests that ended, a second.
    rate_per_s: f64,
    #[serde(flatten)]
    eta: Eta,
}

/// Seconds until the rest has ended; `None`: it cannot be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Eta {
    /// At the rate of the window.
    eta_s: Option<i64>,
    /// At the fastest and the slowest of its halves.
    eta_low_s: Option<i64>,
    eta_high_s: Option<i64>,
}

pub async fn follow(
    State(app): State<App>,
    Who(caller): Who,
    Id(id): Id<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = caller.scope(Permission::ReadJobs);
    let first = jobs::get(&app.engine, scope, id).await?.ok_or_else(|| no_job(id))?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
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
    rate: Rate,
    tick: tokio::time::Interval,
}

fn events(app: App, scope: Scope, first: Job, seen: Option<String>) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stopping = app.stopping.clone();
    let watch = Watch { app, scope, id: first.id, seen, job: Some(first), rate: Rate::default(), tick };
    let all = stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        let (event, is_last) = watch.next().await?;
        Some((Ok(event), (!is_last).then_some(watch)))
    });
    all.take_until(async move { stopping.cancelled().await })
}

impl Watch {
    /// The next event and whether it is the last; `None` when the job is gone.
    async fn next(&mut self) -> Option<(Event, bool)> {
        loop {
            self.tick.tick().await;
            let job = match self.job.take() {
                Some(job) => job,
                None => match jobs::get(&self.app.engine, self.scope, self.id).await {
                    Ok(Some(job)) => job,
                    Ok(None) => return None,
                    // It will be back; the client sees the keep-alive.
                    Err(_) => continue,
                },
            };
            let (rate_per_s, eta) = self.rate.take(Instant::now(), &job.counts);
            let is_last = job.state.is_terminal();
            let event_id = event_id(&job);
            if self.seen.as_ref() == Some(&event_id) && !is_last {
                continue;
            }
            let progress = Progress {
                state: job.state,
                counts: job.counts,
                in_flight: job.in_flight,
                cost_usd: job.cost_usd,
                unpriced: job.unpriced,
                waiting_reason: job.waiting_reason,
                rate_per_s,
                eta,
            };
            let event = Event::default().event(if is_last { "end" } else { "progress" }).id(event_id.as_str());
            self.seen = Some(event_id);
            return Some((event.json_data(&progress).ok()?, is_last));
        }
    }
}

/// Names what an event shows, so that equal ones are sent once, also over a reconnection.
fn event_id(job: &Job) -> String {
    let Counts { succeeded, failed, cancelled, expired, pending, .. } = job.counts;
    let reason = job.waiting_reason.as_deref().unwrap_or("-");
    format!("{}.{succeeded}.{failed}.{cancelled}.{expired}.{pending}.{reason}", job.state.as_str())
}

#[derive(Default)]
struct Rate(VecDeque<(Instant, i64)>);

impl Rate {
    /// Requests ended a second over the window, and how long the rest takes.
    fn take(&mut self, now: Instant, counts: &Counts) -> (f64, Eta) {
        self.0.push_back((now, counts.succeeded + counts.failed));
        if self.0.len() > WINDOW + 1 {
            self.0.pop_front();
        }
        let (last, middle) = (self.0.len() - 1, (self.0.len() - 1) / 2);
        let rates = [(0, last), (0, middle), (middle, last)].map(|(from, to)| self.between(from, to));
        let [rate, first, second] = rates.map(|rate| rate.unwrap_or(0.0));
        let eta = |rate: f64| (rate > 0.0).then(|| (counts.pending as f64 / rate).ceil() as i64);
        let eta = Eta { eta_s: eta(rate), eta_low_s: eta(first.max(second)), eta_high_s: eta(first.min(second)) };
        ((rate * 10.0).round() / 10.0, eta)
    }

    fn between(&self, from: usize, to: usize) -> Option<f64> {
        let ((since, before), (until, after)) = (self.0.get(from)?, self.0.get(to)?);
        let seconds = until.duration_since(*since).as_secs_f64();
        (seconds > 0.0).then(|| (after - before) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_window() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let counts = |done: i64| Counts { succeeded: done, pending: 1000 - done, ..Counts::default() };
        assert_eq!(rate.take(start, &counts(0)), (0.0, Eta::default()));
        let early = Eta { eta_s: Some(99), eta_low_s: Some(99), eta_high_s: None };
        assert_eq!(rate.take(start + TICK, &counts(10)), (10.0, early));
        let later = Eta { eta_s: Some(65), eta_low_s: Some(49), eta_high_s: Some(97) };
        assert_eq!(rate.take(start + TICK * 2, &counts(30)), (15.0, later));
        for second in 3..=20 {
            rate.take(start + TICK * second, &counts(30));
        }
        assert_eq!(rate.take(start + TICK * 21, &counts(30)), (0.0, Eta::default()), "it stands still");
    }
}
