//! The job's parameters as the query of its submission.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use domain::{After, Lane, Tags, money::Total};

use super::{Failure, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(DateTime<Utc>),
    In(TimeDelta),
}

/// What is said of the job as a whole. The file's first line, {"job":{…}}, may say it too; flags win.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// prod, standard or bulk; bulk where the key may use it
    #[arg(long, value_name = "LANE")]
    lane: Option<Lane>,
    /// What it is for, such as feature=search; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    #[arg(long, value_name = "NAME", help = "Shown in lists")]
    name: Option<String>,
    /// -100 to 100 among the team's own jobs in the lane; higher is sooner
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Expires what is not done by 2026-12-24T18:00:00Z, or in 90m, 6h, 2d
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Moment>,
    /// Start no earlier than this; a time as for --deadline
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_at: Option<Moment>,
    /// Start after all of JOB has succeeded; JOB:end: after it has ended
    #[arg(long, value_name = "JOB")]
    after: Option<After>,
    /// Tries of one request that fail by its own errors, 5 when left out
    #[arg(long, value_name = "N")]
    max_attempts: Option<i16>,
    /// Maximum cost in USD; the job pauses when it is reached
    #[arg(long, value_name = "AMOUNT")]
    max_cost: Option<Total>,
    /// Receives a signed POST when the job ends
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

/// RFC 3339, or a number with s, m, h or d, counted from now.
pub fn time(text: &str) -> Result<Moment, String> {
    let bad = || format!("{text:?} is neither a time like 2026-12-24T18:00:00Z nor a span like 90m, 6h or 2d");
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(at.to_utc()));
    }
    let unit = text.chars().last().ok_or_else(bad)?;
    let number: i64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let span = number.checked_mul(seconds).and_then(TimeDelta::try_seconds).filter(|span| *span > TimeDelta::zero());
    span.map(Moment::In).ok_or_else(bad)
}

impl Moment {
    pub fn text(self, now: DateTime<Utc>) -> Outcome<String> {
        let at = match self {
            Self::At(at) => Some(at),
            Self::In(span) => now.checked_add_signed(span),
        };
        let at = at.ok_or_else(|| Failure::usage("that time is further away than a calendar reaches"))?;
        Ok(at.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// Only what was given.
pub fn query(args: &JobArgs, now: DateTime<Utc>) -> Outcome<Vec<(&'static str, String)>> {
    let mut query = Vec::new();
    let mut put = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
    put("lane", args.lane.as_ref().map(ToString::to_string));
    put("name", args.name.clone());
    put("tags", tags(&args.tag)?);
    put("priority", args.priority.map(|n| n.to_string()));
    put("deadline", args.deadline.map(|at| at.text(now)).transpose()?);
    put("start_at", args.start_at.map(|at| at.text(now)).transpose()?);
    put("after", args.after.map(|after| after.to_string()));
    put("max_attempts", args.max_attempts.map(|n| n.to_string()));
    put("max_cost", args.max_cost.map(|most| most.to_string()));
    put("webhook", args.webhook.clone());
    Ok(query)
}

fn tags(given: &[String]) -> Outcome<Option<String>> {
    if let Some(tag) = given.iter().find(|tag| tag.contains(',')) {
        return Err(Failure::usage(format_args!("--tag {tag}: a tag has no comma; give --tag again for another one")));
    }
    let joined = given.join(",");
    Tags::from_str(&joined).map_err(|error| Failure::usage(format_args!("--tag: {error}")))?;
    Ok((!given.is_empty()).then_some(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_spans() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+02:00", "2026-12-24T16:00:00Z"),
            ("90m", "2026-11-22T13:30:00Z"),
            ("2d", "2026-11-24T12:00:00Z"),
        ] {
            assert_eq!(time(text).unwrap().text(now).unwrap(), expected, "{text}");
        }
        for text in ["", "h", "5", "-5h", "0s", "5w", "tomorrow", "9223372036854775807d", "5é"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tags_are_checked_before_anything_is_sent() {
        let given = |tags: &[&str]| super::tags(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&[]).unwrap(), None);
        assert_eq!(given(&["feature=search", "sprint=42"]).unwrap().as_deref(), Some("feature=search,sprint=42"));
        for bad in [&["feature"][..], &["a=1,b=2"], &["team=x"]] {
            assert_eq!(given(bad).unwrap_err().exit, crate::cli::Exit::Usage, "{bad:?}");
        }
    }
}
