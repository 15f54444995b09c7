//! `tollway jobs show`.

use domain::{AuditLine, Job, JobId};

use super::screen;
use crate::cli::{
    Common, Exit, Format, Outcome, audit,
    client::{Client, Page},
    output::{self, count, line, note, time},
};

pub async fn run(client: &Client, id: JobId, common: &Common) -> Outcome {
    let job: Job = client.get(&format!("api/v1/jobs/{id}"), &()).await?;
    if common.output == Format::Json {
        output::json(&job)?;
        return Ok(Exit::Done);
    }
    line(page(&job))?;
    let history: Page<AuditLine> = client.get(&format!("api/v1/jobs/{id}/history"), &[("limit", "50")]).await?;
    for done in &history.data {
        line(told(done))?;
    }
    if history.next.is_some() {
        note(format_args!("There is more: GET /api/v1/jobs/{id}/history"));
    }
    Ok(Exit::Done)
}

/// A line of the history: who did what, and when.
fn told(done: &AuditLine) -> String {
    format!("{:<12} {} by {}{}", done.action, time(done.at), audit::who(done), audit::details(done))
}

fn page(job: &Job) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut row = |name, text: String| rows.push((name, text));
    row("job", job.id.to_string());
    if let Some(name) = &job.name {
        row("name", name.clone());
    }
    row(
        "state",
        match &job.waits {
            // Part of it runs, the rest is served in its turn: that is what running means.
            Some(waits) if job.in_flight == 0 || waits.is_blocked() => {
                format!("{}, waiting for: {}", job.state.as_str(), waits.text())
            }
            _ => job.state.as_str().to_owned(),
        },
    );
    row("team", job.team.clone());
    row("lane", format!("{}, priority {}", job.lane, job.priority));
    if !job.tags.is_empty() {
        row("tags", job.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "));
    }
    let counts = &job.counts;
    row("requests", count(counts.accepted));
    for (name, n) in [
        ("  succeeded", counts.succeeded),
        ("  failed", counts.failed),
        ("  cancelled", counts.cancelled),
        ("  expired", counts.expired),
    ] {
        if n > 0 {
            row(name, count(n));
        }
    }
    if counts.pending > 0 {
        row("  pending", format!("{}, {} of them in flight", count(counts.pending), count(job.in_flight)));
    }
    if job.pace.rate_per_s > 0.0 {
        let left = screen::time_left(&job.pace).map_or_else(String::new, |left| format!(", {left}"));
        row("rate", format!("{} a second{left}", job.pace.rate_per_s));
    }
    let unpriced = match job.unpriced {
        0 => String::new(),
        n => format!(", and {} attempts without a price", count(n)),
    };
    let most = job.max_cost.map_or_else(String::new, |most| format!(" of at most ${most}"));
    row("cost", format!("${}{most}{unpriced}", job.cost_usd));
    row("submitted", time(job.created_at));
    for (name, at) in [
        ("started", job.started_at),
        ("deadline", job.deadline_at),
        ("ended", job.finished_at),
        ("purged on", job.purge_at),
    ] {
        if let Some(at) = at {
            row(name, time(at));
        }
    }
    if let Some(earlier) = job.retry_of {
        row("retry of", earlier.to_string());
    }
    if let Some(after) = job.after {
        row("after", format!("{}, {}", after.job, after.on.as_str()));
    }
    rows.iter().map(|(name, text)| format!("{name:<12} {text}")).collect::<Vec<_>>().join("\n")
}
