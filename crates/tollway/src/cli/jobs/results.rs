//! `tollway jobs results`: streamed, never held; a connection that breaks is taken up again where it broke.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use domain::{JobId, RequestId};
use futures::StreamExt;
use reqwest::{Method, Response};

use crate::cli::{
    Exit, Failure, Outcome,
    client::Client,
    output::{count, note},
};

/// So many times in a row a connection may bring nothing.
const TRIES: u32 = 10;
const PENDING: &str = "x-tollway-pending";
const LEFT_OUT: &str = "x-tollway-left-out";

#[derive(Debug, Args)]
pub struct Results {
    id: JobId,
    /// Failed requests only
    #[arg(long)]
    failed: bool,
    /// Replace failures by the results of their retries
    #[arg(long)]
    merge_retries: bool,
    /// Wait for requests that are not finished yet
    #[arg(long)]
    follow: bool,
    /// Start at this line of the job
    #[arg(long, value_name = "LINE")]
    from: Option<i64>,
    /// jsonl, or parquet for embedding vectors
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "jsonl", hide_possible_values = true)]
    format: Form,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Jsonl,
    Parquet,
}

pub async fn run(client: &Client, args: &Results) -> Outcome {
    match args.format {
        Form::Jsonl => lines(client, args).await,
        Form::Parquet => parquet(client, args).await,
    }
}

async fn ask(client: &Client, args: &Results, from: Option<i64>) -> Outcome<Response> {
    let mut query = Vec::new();
    if args.failed {
        query.push(("failed", "true".to_owned()));
    }
    if args.follow {
        query.push(("follow", "true".to_owned()));
    }
    if args.merge_retries {
        query.push(("merge", "retries".to_owned()));
    }
    if args.format == Form::Parquet {
        query.push(("format", "parquet".to_owned()));
    }
    query.extend(from.map(|line| ("from", line.to_string())));
    client.send(client.request(Method::GET, &format!("api/v1/jobs/{}/results", args.id)).query(&query)).await
}

async fn lines(client: &Client, args: &Results) -> Outcome {
    let mut out: Box<dyn Write + Send> = match &args.out {
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| cannot_write(path, &error))?),
        None => Box::new(std::io::stdout()),
    };
    let mut from = args.from;
    let mut tries = 0;
    loop {
        let broken = match ask(client, args, from).await {
            Ok(response) => {
                let pending = number(&response, PENDING);
                match copy(client, response, &mut out, &mut from, &mut tries).await? {
                    None => {
                        out.flush()?;
                        if let Some(pending) = pending.filter(|pending| *pending > 0 && !args.follow) {
                            note(format_args!(
                                "{} requests are not finished yet; --follow waits for them.",
                                count(pending)
                            ));
                        }
                        return Ok(Exit::Done);
                    }
                    Some(broken) => broken,
                }
            }
            // The first answer decides whether there is anything to wait for.
            Err(failure) if failure.exit == Exit::Unavailable && from != args.from => failure,
            Err(failure) => return Err(failure),
        };
        tries += 1;
        if tries > TRIES {
            let next = from.map_or_else(String::new, |line| format!(" --from {line}"));
            return Err(broken.hint(format_args!("Go on with: tollway jobs results {}{next}", args.id)));
        }
        tokio::time::sleep(Duration::from_millis(500 * u64::from(tries))).await;
    }
}

/// Writes whole lines only. `None` at the end, else why the stream broke; `from` is then the next line to ask for.
async fn copy(
    client: &Client,
    response: Response,
    out: &mut (dyn Write + Send),
    from: &mut Option<i64>,
    tries: &mut u32,
) -> Outcome<Option<Failure>> {
    let mut pieces = response.bytes_stream();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Ok(Some(client.unreachable(&error))),
        };
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let whole = &rest[..=end];
        out.write_all(whole)?;
        out.flush()?;
        let last = whole[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line_of(last).ok_or_else(|| {
            Failure::new(Exit::Failed, "the gateway sent a result line without the id of its request")
        })?;
        *from = Some(line + 1);
        *tries = 0;
        rest.drain(..=end);
    }
    if rest.is_empty() {
        return Ok(None);
    }
    Ok(Some(Failure::new(Exit::Unavailable, "the results ended in the middle of a line")))
}

/// Which line of the job a result line is of: its `id` is `req_<job>_<line>`.
fn line_of(result: &[u8]) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    let head: Head<'_> = serde_json::from_slice(result).ok()?;
    let id: RequestId = head.id.parse().ok()?;
    Some(id.line.into())
}

/// A Parquet file is of use only when it is whole: it gets its name at the end.
async fn parquet(client: &Client, args: &Results) -> Outcome {
    if args.failed || args.follow || args.merge_retries || args.from.is_some() {
        return Err(Failure::usage(
            "parquet gives all vectors that there are: it takes no --failed, --follow, --merge-retries or --from",
        ));
    }
    if args.out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("parquet is not for a terminal; name a file with --out"));
    }
    let response = ask(client, args, None).await?;
    let missing = Missing { pending: number(&response, PENDING), left_out: number(&response, LEFT_OUT) };
    let staged = args.out.as_ref().map(|path| path.with_extension("parquet.part"));
    let mut out: Box<dyn Write + Send> = match &staged {
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| cannot_write(path, &error))?),
        None => Box::new(std::io::stdout()),
    };
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                if let Some(staged) = &staged {
                    let _ = std::fs::remove_file(staged);
                }
                return Err(client.unreachable(&error).hint("Nothing was kept; ask again."));
            }
        };
        out.write_all(&piece)?;
    }
    out.flush()?;
    if let (Some(staged), Some(path)) = (&staged, &args.out) {
        std::fs::rename(staged, path).map_err(|error| cannot_write(path, &error))?;
    }
    match missing.sentence() {
        Some(sentence) => {
            note(sentence);
            Ok(Exit::Incomplete)
        }
        None => Ok(Exit::Done),
    }
}

/// Requests of the job that are not in a table of its vectors.
struct Missing {
    pending: Option<i64>,
    left_out: Option<i64>,
}

impl Missing {
    /// `None`: all are in it, or an older gateway does not say.
    fn sentence(&self) -> Option<String> {
        let some = |number: Option<i64>| number.filter(|number| *number > 0).map(count);
        let pending = some(self.pending).map(|n| format!("{n} requests that are not finished yet"));
        let left_out = some(self.left_out).map(|n| {
            format!("{n} requests that ended without a vector (failed, cancelled, expired, or not of embeddings)")
        });
        let parts: Vec<String> = [pending, left_out].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("The file is without {}.", parts.join(" and ")))
    }
}

fn number(response: &Response, header: &str) -> Option<i64> {
    response.headers().get(header)?.to_str().ok()?.parse().ok()
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_of_vectors_lacks_is_said() {
        let said = |pending, left_out| Missing { pending, left_out }.sentence();
        assert_eq!(said(Some(0), Some(0)), None);
        assert_eq!(said(None, None), None);
        assert_eq!(
            said(Some(2310), Some(0)).as_deref(),
            Some("The file is without 2,310 requests that are not finished yet.")
        );
        let both = said(Some(1), Some(3)).unwrap();
        assert!(
            both.contains("1 requests that are not finished yet and 3 requests that ended without a vector"),
            "{both}"
        );
    }

    #[test]
    fn a_result_line_tells_its_number() {
        let id = RequestId { job: JobId(7_528_000_000_000_000_001), line: 42 };
        assert_eq!(line_of(format!(r#"{{"id":"{id}","custom_id":"a","response":null}}"#).as_bytes()), Some(42));
        assert_eq!(line_of(br#"{"id":"batch_req_1"}"#), None);
        assert_eq!(line_of(b""), None);
    }
}
