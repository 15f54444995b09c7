//! How a watched job is shown: a bar on a terminal, a line now and then elsewhere, or JSON lines.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use domain::{Counts, Job, JobState, job::Progress, progress::ProgressRate};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{
    Exit, Format, Outcome,
    output::{self, count, duration, line, note},
};

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub enum Screen {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Json,
}

impl Screen {
    pub fn new(format: Format) -> Self {
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

    pub fn show(&mut self, progress: &Progress) -> Outcome<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(progress.counts.accepted.max(0) as u64);
                bar.set_position(done(&progress.counts).max(0) as u64);
                bar.set_message(sentence(progress));
            }
            Self::Lines { last } if last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) => {
                *last = Some(Instant::now());
                note(sentence(progress));
            }
            Self::Lines { .. } => {}
            Self::Json => output::json(progress)?,
        }
        Ok(())
    }

    pub fn lost(&self) {
        if let Self::Bar(bar) = self {
            bar.set_message("the gateway is gone; waiting for it");
        }
    }

    /// Among JSON lines of progress, the last one is the job itself.
    pub fn end(self, job: &Job) -> Outcome {
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
        _ => parts.push(format!("{:.0}/s", progress.pace.rate_per_s)),
    }
    parts.extend(time_left(&progress.pace));
    if counts.failed > 0 {
        parts.push(format!("{} failed", count(counts.failed)));
    }
    parts.push(format!("${}", progress.cost_usd));
    parts.join("  ")
}

/// Such as `40s to 2m 5s left`; `None`: it cannot be told.
pub fn time_left(pace: &ProgressRate) -> Option<String> {
    let text = |seconds: i64| duration(seconds as f64);
    pace.eta_s.map(|eta| match pace.eta_low_s.zip(pace.eta_high_s).map(|(low, high)| (text(low), text(high))) {
        Some((low, high)) if low != high => format!("{low} to {high} left"),
        _ => format!("{} left", text(eta)),
    })
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
            "in_flight": 3, "cost_usd": "1.25", "unpriced": 0, "waiting_reason": null, "retry_of": null, "after": null,
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
