//! `tollway jobs failures`.

use domain::{Failures, JobId};

use crate::cli::{
    Common, Exit, Format, Outcome,
    client::Client,
    output::{self, Align, count, note, optional},
};

/// Of a message, in a table.
const LONGEST: usize = 80;

pub async fn run(client: &Client, id: JobId, common: &Common) -> Outcome {
    let failures: Failures = client.get(&format!("api/v1/jobs/{id}/failures"), &()).await?;
    if common.output == Format::Json {
        output::json(&failures)?;
        return Ok(Exit::Done);
    }
    let rows = failures.groups.into_iter().map(|group| {
        vec![
            group.error,
            optional(group.status),
            optional(group.deployment),
            count(group.count),
            optional(group.line),
            optional(group.message.map(|message| brief(&message))),
        ]
    });
    let columns = [
        ("error", Align::Left),
        ("status", Align::Right),
        ("deployment", Align::Left),
        ("requests", Align::Right),
        ("line", Align::Right),
        ("what was said of it", Align::Left),
    ];
    output::table(&columns, rows.collect(), "No request of it failed.")?;
    if failures.examined < failures.failed {
        note(format_args!(
            "Of {} failures the first {} are counted here.",
            count(failures.failed),
            count(failures.examined)
        ));
    }
    Ok(Exit::Done)
}

fn brief(message: &str) -> String {
    let one_line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if one_line.chars().count() <= LONGEST {
        return one_line;
    }
    one_line.chars().take(LONGEST - 1).chain(['…']).collect()
}
