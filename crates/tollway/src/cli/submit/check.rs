//! `tollway submit --dry-run`: first the checks that a line alone can meet, here, which find all bad lines; then the gateway's
//! own, which also knows models, prices and lanes.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use async_compression::tokio::bufread::GzipDecoder;
use domain::{job::JobParams, line::LONGEST_LINE, money::Total};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use wire::{BadLine, RequestLine};

use super::{Submit, file, upload};
use crate::cli::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    output::{self, count, line, note},
};

const MOST_LINES: u64 = 5_000_000;
/// As many bad lines are shown; all are counted.
const SHOWN: usize = 20;

#[derive(Debug, Default, Serialize)]
struct Findings {
    requests: u64,
    /// Requests of each model.
    models: BTreeMap<String, u64>,
    bad_lines: u64,
    /// The first of them.
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    line: u64,
    reason: String,
}

/// What the gateway would take it for.
#[derive(Debug, Serialize, Deserialize)]
struct DryRun {
    lane: String,
    requests: i64,
    est_input_tokens: i64,
    /// `None`: a model has no price.
    max_cost_usd: Option<Total>,
}

pub async fn run(args: &Submit, mut query: Vec<(&'static str, String)>, common: &Common) -> Outcome {
    // A pipe can be read once, and it is read twice here.
    let kept = file::keep_pipe(&args.file).await?;
    let path = kept.as_ref().map_or(&*args.file, |kept| kept.path());
    let input = file::open(path).await?;
    let found = if input.is_gzip {
        let mut gzip = GzipDecoder::new(input.reader);
        gzip.multiple_members(true);
        read(BufReader::with_capacity(256 << 10, gzip)).await
    } else {
        read(input.reader).await
    }
    .map_err(|error| Failure::new(Exit::Failed, format_args!("cannot read {}: {error}", args.file.display())))?;
    if found.requests == 0 && found.bad_lines == 0 {
        return Err(Failure::new(Exit::Refused, format_args!("{} holds no requests", args.file.display())));
    }
    // What is bad here, the gateway would refuse as well.
    let quote = if found.bad_lines > 0 {
        None
    } else {
        query.push(("dry_run", "true".to_owned()));
        match upload::send::<DryRun>(&Client::find()?, upload::Upload { file: path, ..args.upload() }, &query).await {
            Ok(quote) => Some(quote),
            Err(failure) if failure.exit == Exit::Unavailable => None,
            Err(failure) => return Err(failure),
        }
    };
    match common.output {
        Format::Json => output::json(&serde_json::json!({ "file": found, "gateway": quote }))?,
        _ => show(&found, quote.as_ref())?,
    }
    Ok(if found.bad_lines == 0 { Exit::Done } else { Exit::Refused })
}

async fn read(mut input: impl AsyncBufRead + Unpin) -> std::io::Result<Findings> {
    let mut found = Findings::default();
    let mut ids = HashSet::new();
    // Two keyed hashes of 64 bits: nobody's ids collide by accident or design.
    let keys = (RandomState::new(), RandomState::new());
    let mut text = Vec::new();
    let mut number = 0;
    while let Some(length) = next_line(&mut input, &mut text).await? {
        number += 1;
        if number == 1 && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        if text.trim_ascii().is_empty() && length <= LONGEST_LINE {
            continue;
        }
        let checked = match () {
            () if length > LONGEST_LINE => Err(BadLine::TooLong { bytes: length, limit: LONGEST_LINE }.to_string()),
            () if number == 1 && is_job_line(&text) => {
                wire::object::from_slice::<JobLine>(&text).map_err(|error| error.to_string()).map(|_| None)
            }
            () => RequestLine::parse(&text).map_err(|error| error.to_string()).map(Some),
        };
        let reason = match checked {
            Ok(None) => continue,
            Ok(Some(request)) => {
                found.requests += 1;
                match found.models.get_mut(&*request.call.model) {
                    Some(requests) => *requests += 1,
                    None => drop(found.models.insert(request.call.model.to_string(), 1)),
                }
                let id = request.custom_id_bytes();
                match () {
                    () if found.requests > MOST_LINES => format!("a job has at most {MOST_LINES} requests"),
                    () if ids.insert((keys.0.hash_one(id), keys.1.hash_one(id))) => continue,
                    () => format!("custom_id {:?} stands there twice", request.custom_id),
                }
            }
            Err(reason) => reason,
        };
        found.bad_lines += 1;
        if found.problems.len() < SHOWN {
            found.problems.push(Problem { line: number, reason });
        }
    }
    Ok(found)
}

/// The next line without its end into `text`, of one that is too long only the beginning. Gives its whole length; `None`
/// at the end.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), text: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    text.clear();
    let mut length = 0;
    loop {
        let piece = input.fill_buf().await?;
        if piece.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let part = &piece[..end.unwrap_or(piece.len())];
        if text.len() <= LONGEST_LINE {
            text.extend_from_slice(part);
        }
        length += part.len();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            if text.last() == Some(&b'\r') {
                text.pop();
                length -= 1;
            }
            return Ok(Some(length));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobLine {
    #[expect(dead_code, reason = "only that it can be read matters")]
    job: JobParams,
}

fn is_job_line(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Outer {
        job: Option<Value>,
        custom_id: Option<Value>,
    }
    wire::object::from_slice::<Outer>(text).is_ok_and(|outer| outer.job.is_some() && outer.custom_id.is_none())
}

fn show(found: &Findings, quote: Option<&DryRun>) -> std::io::Result<()> {
    for Problem { line: number, reason } in &found.problems {
        line(format!("line {number}: {reason}"))?;
    }
    if found.bad_lines as usize > found.problems.len() {
        line(format!("… and {} more bad lines", count(found.bad_lines as i64 - found.problems.len() as i64)))?;
    }
    for (model, requests) in &found.models {
        line(format!("{} requests for {model}", count(*requests as i64)))?;
    }
    match (found.bad_lines, quote) {
        (0, Some(quote)) => {
            let cost = match quote.max_cost_usd {
                Some(most) => format!("at most ${most}"),
                None => "of unknown cost, for want of a price".to_owned(),
            };
            let tokens = count(quote.est_input_tokens);
            line(format!(
                "It would run in lane {}: about {tokens} input tokens, {cost}. Nothing was submitted.",
                quote.lane
            ))
        }
        (0, None) => {
            note("No gateway was asked whether it has these models.");
            line("Every line is fine. Nothing was submitted.")
        }
        (1, _) => line("1 line would be refused, and the job with it. Nothing was submitted."),
        (n, _) => {
            line(format!("{} lines would be refused, and the job with them. Nothing was submitted.", count(n as i64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> String {
        format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/embeddings","body":{{"model":"e5","input":"x"}}}}"#)
    }

    async fn check(text: &str) -> (u64, Vec<(u64, String)>) {
        let found = read(text.as_bytes()).await.unwrap();
        (found.requests, found.problems.into_iter().map(|problem| (problem.line, problem.reason)).collect())
    }

    #[tokio::test]
    async fn good_lines_are_counted_by_model() {
        let text = format!("{{\"job\":{{\"lane\":\"bulk\"}}}}\n{}\r\n\n{}", request("a"), request("b"));
        assert_eq!(check(&text).await, (2, vec![]));
        assert_eq!(read(text.as_bytes()).await.unwrap().models, BTreeMap::from([("e5".to_owned(), 2)]));
    }

    #[tokio::test]
    async fn every_bad_line_is_named_by_its_number() {
        let text =
            [request("a"), String::new(), "{".to_owned(), request("a"), request("b").replace("POST", "GET")].join("\n");
        let (requests, problems) = check(&text).await;
        let lines: Vec<u64> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!((requests, lines), (2, vec![3, 4, 5]));
        assert!(
            problems[1].1.contains("\"a\" stands there twice") && problems[2].1.contains("\"GET\""),
            "{problems:?}"
        );
        let (_, problems) = check("{\"job\":{\"lain\":\"bulk\"}}").await;
        assert!(problems[0].1.contains("unknown field `lain`"), "{problems:?}");
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_counted_not_kept() {
        let text = format!("{}\n{}\n", "x".repeat(LONGEST_LINE + 9), request("a"));
        let (requests, problems) = check(&text).await;
        assert_eq!((requests, problems.len(), problems[0].0), (1, 1, 1));
        assert!(problems[0].1.contains(&(LONGEST_LINE + 9).to_string()), "{problems:?}");
    }
}
