//! `tollway jobs watch`, and `submit --watch`: progress until the end. A gateway that restarts in between is waited for.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use domain::{Counts, Job, JobId, JobState, money::Total};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, header};
use serde::{Deserialize, Serialize};

use super::events::{Event, Events};
use crate::cli::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    output::{self, count, duration, line, note},
};

/// For so long a gateway may be gone.
const PATIENCE: Duration = Duration::from_secs(120);
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The data of an event.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    state: JobState,
    counts: Counts,
    in_flight: i64,
    cost_usd: Total,
    unpriced: i64,
    waiting_reason: Option<String>,
    /// Requests that end in a second, lately.
    rate_per_s: Option<f64>,
    eta_s: Option<f64>,
}

/// The exit code says how the job ended.
pub async fn run(client: &Client, id: JobId, common: &Common) -> Outcome {
    tokio::select! {
        ended = follow(client, id, common) => ended,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            note(format_args!("\nThe job goes on. Watch it again: tollway jobs watch {id}"));
            Ok(Exit::Interrupted)
        }
    }
}

async fn follow(client: &Client, id: JobId, common: &Common) -> Outcome {
    let mut screen = Screen::new(common.output);
    let mut last_id: Option<String> = None;
    let mut alive = Instant::now();
    loop {
        let mut request = client
            .request(Method::GET, &format!("api/v1/jobs/{id}/events"))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(last_id) = &last_id {
            request = request.header("last-event-id", last_id);
        }
        let broken = match client.send(request).await {
            Ok(response) => {
                alive = Instant::now();
                let mut events = Events::default();
                let mut pieces = response.bytes_stream();
                let mut broken = None;
                while let Some(piece) = pieces.next().await {
                    let piece = match piece {
                        Ok(piece) => piece,
                        Err(error) => {
                            broken = Some(client.unreachable(&error));
                            break;
                        }
                    };
                    alive = Instant::now();
                    for event in events.push(&piece) {
                        last_id = event.id.clone().or(last_id);
                        if take(&event, &mut screen)? == Told::End {
                            let job = client.get(&format!("api/v1/jobs/{id}"), &()).await?;
                            return screen.end(&job);
                        }
                    }
                }
                broken
            }
            Err(failure) if failure.exit == Exit::Unavailable => Some(failure),
            Err(failure) => return Err(failure),
        };
        if alive.elapsed() > PATIENCE {
            let gone =
                || Failure::new(Exit::Unavailable, format_args!("{} tells nothing more of the job", client.base()));
            return Err(broken.unwrap_or_else(gone).hint(format_args!("Watch it again: tollway jobs watch {id}")));
        }
        screen.lost();
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Progress,
    End,
}

fn take(event: &Event, screen: &mut Screen) -> Outcome<Told> {
    if !matches!(event.name.as_str(), "progress" | "end") {
        return Ok(Told::Progress);
    }
    let progress: Progress = serde_json::from_str(&event.data).map_err(|error| {
        Failure::new(Exit::Failed, format_args!("the gateway sent progress that cannot be read: {error}"))
    })?;
    if event.name == "end" {
        return Ok(Told::End);
    }
    screen.show(&progress)?;
    Ok(Told::Progress)
}

enum Screen {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Json,
}

impl Screen {
    fn new(format: Format) -> Self {
        if format == Format::Json {
            return Self::Json;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        let bar = ProgressBar::new(0);
        match ProgressStyle::with_template("{wide_bar} {msg}") {
            Ok(style) => Self::Bar(bar.with_style(style)),
            Err(_) => Self::Bar(bar),
        }
    }

    fn show(&mut self, progress: &Progress) -> Outcome<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(progress.counts.accepted.max(0) as u64);
                bar.set_position(done(&progress.counts).max(0) as u64);
                bar.set_message(sentence(progress));
            }
            Self::Lines { last } if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) => {
                *last = Some(Instant::now());
                note(sentence(progress));
            }
            Self::Lines { .. } => {}
            Self::Json => output::json(progress)?,
        }
        Ok(())
    }

    fn lost(&self) {
        if let Self::Bar(bar) = self {
            bar.set_message("the gateway is gone; waiting for it");
        }
    }

    /// Among JSON lines of progress, the last one is the job itself.
    fn end(self, job: &Job) -> Outcome {
        match self {
            Self::Bar(bar) => {
                bar.finish_and_clear();
                line(ending(job))?;
            }
            Self::Lines { .. } => line(ending(job))?,
            Self::Json => output::json(job)?,
        }
        Ok(exit_of(job))
    }
}

fn exit_of(job: &Job) -> Exit {
    let all_succeeded = job.state == JobState::Completed && job.counts.failed == 0;
    if all_succeeded { Exit::Done } else { Exit::JobFailures }
}

fn done(counts: &Counts) -> i64 {
    counts.accepted - counts.pending
}

fn sentence(progress: &Progress) -> String {
    let counts = &progress.counts;
    let mut parts = vec![format!("{}/{}", count(done(counts)), count(counts.accepted))];
    match &progress.waiting_reason {
        Some(reason) if progress.in_flight == 0 => parts.push(format!("{}: {reason}", progress.state.as_str())),
        _ => parts.extend(progress.rate_per_s.map(|rate| format!("{rate:.0}/s"))),
    }
    parts.extend(progress.eta_s.map(|seconds| format!("{} left", duration(seconds))));
    if counts.failed > 0 {
        parts.push(format!("{} failed", count(counts.failed)));
    }
    parts.push(format!("${}", progress.cost_usd));
    parts.join("  ")
}

fn ending(job: &Job) -> String {
    let counts = &job.counts;
    let took =
        job.finished_at.map(|end| (end - job.started_at.unwrap_or(job.created_at)).num_milliseconds() as f64 / 1000.0);
    let took = took.map_or_else(String::new, |seconds| format!(" in {}", duration(seconds)));
    let mut parts = vec![format!("{} succeeded", count(counts.succeeded))];
    for (n, what) in [(counts.failed, "failed"), (counts.cancelled, "cancelled"), (counts.expired, "expired")] {
        if n > 0 {
            parts.push(format!("{} {what}", count(n)));
        }
    }
    let mut text = format!("{} {}{took}: {}, ${}", job.id, job.state.as_str(), parts.join(", "), job.cost_usd);
    if job.unpriced > 0 {
        text.push_str(&format!(" and {} attempts without a price", count(job.unpriced)));
    }
    if counts.failed > 0 {
        text.push_str(&format!("\nSee why: tollway jobs results {} --failed", job.id));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(state: &str, counts: [i64; 6]) -> Job {
        let [accepted, succeeded, failed, cancelled, expired, pending] = counts;
        serde_json::from_value(json!({
            "id": "job_01g5z0000000a", "state": state, "team": "search", "lane": "bulk", "name": null,
            "tags": {"feature": "reindex"}, "priority": 0,
            "counts": {"accepted": accepted, "succeeded": succeeded, "failed": failed, "cancelled": cancelled,
                       "expired": expired, "pending": pending},
            "in_flight": 3, "cost_usd": "1.25", "unpriced": 0, "waiting_reason": null, "retry_of": null,
            "created_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:01Z",
            "finished_at": "2026-11-22T12:01:31Z", "deadline_at": null, "purge_at": null,
        }))
        .unwrap()
    }

    #[test]
    fn progress_is_one_line() {
        let running = json!({
            "state": "running", "in_flight": 3, "cost_usd": "1.25", "unpriced": 0, "waiting_reason": null,
            "counts": {"accepted": 20_000, "succeeded": 12_000, "failed": 5, "cancelled": 0, "expired": 0, "pending": 7_995},
            "rate_per_s": 812.4, "eta_s": 61,
        });
        assert_eq!(
            sentence(&serde_json::from_value(running).unwrap()),
            "12,005/20,000  812/s  1m 1s left  5 failed  $1.25"
        );
    }

    #[test]
    fn the_exit_code_says_how_the_job_ended() {
        let ended = |state, counts| exit_of(&job(state, counts));
        assert_eq!(ended("completed", [2, 2, 0, 0, 0, 0]), Exit::Done);
        assert_eq!(ended("completed", [2, 1, 1, 0, 0, 0]), Exit::JobFailures);
        assert_eq!(ended("cancelled", [2, 1, 0, 1, 0, 0]), Exit::JobFailures);
        assert_eq!(ended("expired", [2, 1, 0, 0, 1, 0]), Exit::JobFailures);
    }

    #[test]
    fn the_end_names_what_did_not_succeed_and_where_to_look() {
        let text = ending(&job("completed", [1_002, 1_000, 2, 0, 0, 0]));
        assert_eq!(
            text,
            "job_01g5z0000000a completed in 1m 30s: 1,000 succeeded, 2 failed, $1.25\n\
             See why: tollway jobs results job_01g5z0000000a --failed"
        );
    }
}
