//! `tollway audit`, and how a line of it reads.

use chrono::{DateTime, Utc};
use clap::Args;
use domain::{AuditLine, Object};

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, line, note, time},
};

#[derive(Debug, Args)]
pub struct Audit {
    /// lane:NAME, limit:SCOPE, budget:NAME, team:NAME, config, a job, …
    #[arg(long, value_name = "OBJECT")]
    object: Option<Object>,
    /// Only entries since this time, such as 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// Show at most this many, newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// The gateway's largest page.
const PAGE: usize = 200;

pub async fn run(args: Audit, common: &Common) -> Outcome {
    let client = Client::find()?;
    let (mut lines, mut cursor): (Vec<AuditLine>, Option<String>) = (Vec::new(), None);
    while lines.len() < args.limit {
        let wanted = (args.limit - lines.len()).min(PAGE);
        let mut query = vec![("limit", wanted.to_string())];
        query.extend(args.object.as_ref().map(|object| ("object", object.to_string())));
        query.extend(args.from.map(|from| ("from", from.to_rfc3339())));
        query.extend(args.to.map(|to| ("to", to.to_rfc3339())));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page<AuditLine> = client.get("api/v1/audit", &query).await?;
        lines.extend(page.data);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if common.output == Format::Json {
        output::json(&lines)?;
        return Ok(Exit::Done);
    }
    if lines.is_empty() {
        line("Nothing was changed.")?;
    }
    for done in &lines {
        line(format!("{} {:<8} {} by {}{}", time(done.at), done.action, done.object, who(done), details(done)))?;
    }
    if cursor.is_some() {
        note("There is more; ask with a larger --limit or an earlier --to.");
    }
    Ok(Exit::Done)
}

pub fn who(done: &AuditLine) -> String {
    match (&done.key_id, &done.team) {
        (Some(key), Some(team)) => format!("key {key} of {team}"),
        (Some(key), None) => format!("key {key}"),
        _ => "Tollway".to_owned(),
    }
}

pub fn details(done: &AuditLine) -> String {
    match done.details.as_object() {
        Some(details) if !details.is_empty() => format!(" {}", done.details),
        _ => String::new(),
    }
}
