//! Reports and Parquet come from a child process: their libraries and their memory stay away from the gateway's.

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdout, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

use crate::problem::{Kind, Problem};

const CHUNK: usize = 64 << 10;
/// As much of a child's last words as is kept.
const LAST_WORDS: u64 = 8 << 10;

/// How to run `tollway` as a child.
pub struct Children {
    program: PathBuf,
    /// Before every command's own arguments, such as `--config PATH`.
    first_args: Vec<OsString>,
    slots: Arc<Semaphore>,
    timeout: Duration,
}

/// How a child failed, by the exit codes of our own commands.
#[derive(Debug)]
enum Failed {
    /// 2, 6: what was asked for.
    Refused(String),
    /// 7: passes by itself.
    Unavailable(String),
    TookTooLong,
    Other(String),
}

/// A child that has begun to answer.
struct Answering {
    child: Child,
    stdout: ChildStdout,
    stderr: JoinHandle<String>,
    deadline: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Children {
    /// At most `most` at once, each for at most `timeout`.
    pub fn new(program: PathBuf, first_args: Vec<OsString>, most: usize, timeout: Duration) -> Self {
        Self { program, first_args, slots: Arc::new(Semaphore::new(most)), timeout }
    }

    /// Runs a command and gives its standard output. A child that fails before it wrote anything is a problem; one that
    /// fails later cuts the body, so that nobody takes half for the whole. A caller that goes away ends the child.
    pub async fn run(&self, args: Vec<String>) -> Result<Body, Problem> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Problem::new(Kind::Limited, "As many reports as this replica runs at once are under way.")
                .retry_after(Duration::from_secs(2))
        })?;
        let mut child = Command::new(&self.program)
            .args(&self.first_args)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Problem::internal)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Problem::internal("a child process has no pipes"));
        };
        let mut answering = Answering {
            child,
            stdout,
            stderr: tokio::spawn(last_words(stderr)),
            deadline: Instant::now() + self.timeout,
            _slot: slot,
        };
        let Some(first) = answering.next().await? else { return Ok(Body::empty()) };
        let rest = stream::try_unfold(answering, |mut answering| async {
            match answering.next().await {
                Ok(bytes) => Ok(bytes.map(|bytes| (bytes, answering))),
                Err(failed) => {
                    tracing::error!(?failed, "A child process failed in the middle of its answer, which is cut");
                    Err(io::Error::other("the report could not be completed"))
                }
            }
        });
        Ok(Body::from_stream(stream::once(async { Ok(first) }).chain(Box::pin(rest))))
    }
}

impl Answering {
    /// The next bytes; `None` when the child ended well.
    async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        let deadline = self.deadline;
        tokio::time::timeout_at(deadline, self.read()).await.unwrap_or(Err(Failed::TookTooLong))
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Failed> {
        let broken = |error: io::Error| Failed::Other(error.to_string());
        let mut chunk = BytesMut::with_capacity(CHUNK);
        if self.stdout.read_buf(&mut chunk).await.map_err(broken)? > 0 {
            return Ok(Some(chunk.freeze()));
        }
        let status = self.child.wait().await.map_err(broken)?;
        if status.success() {
            return Ok(None);
        }
        let said = message(&(&mut self.stderr).await.unwrap_or_default());
        Err(match status.code() {
            Some(2 | 6) => Failed::Refused(said),
            Some(7) => Failed::Unavailable(said),
            _ => Failed::Other(format!("{status}: {said}")),
        })
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(said) => Self::new(Kind::Invalid, said),
            Failed::Unavailable(said) => Self::unavailable(said),
            Failed::TookTooLong => Self::unavailable("It took too long. Ask for fewer days or fewer dimensions."),
            Failed::Other(said) => Self::internal(said),
        }
    }
}

/// What a command says when it fails: a JSON object, or a sentence after its name, or an error of the argument parser.
fn message(stderr: &str) -> String {
    let of_line = |line: &str| -> Option<String> {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
            return json["error"].as_str().map(str::to_owned);
        }
        line.strip_prefix("tollway: ").or_else(|| line.strip_prefix("error: ")).map(str::to_owned)
    };
    let last = || stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    stderr.lines().rev().find_map(of_line).or_else(last).unwrap_or_else(|| "it said nothing".to_owned())
}

/// Reads to the end, so that the child never blocks, and keeps the end of it.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    loop {
        match (&mut stderr).take(LAST_WORDS).read_to_end(&mut kept).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let surplus = kept.len().saturating_sub(LAST_WORDS as usize);
                kept.drain(..surplus);
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell that runs `script` answers over HTTP.
    async fn check(script: &str, seconds: u64, expected: Result<&str, Kind>) {
        let shell = Children::new("/bin/sh".into(), vec!["-c".into()], 1, Duration::from_secs(seconds));
        let got = match shell.run(vec![script.to_owned()]).await {
            Ok(body) => Ok(axum::body::to_bytes(body, 1 << 20).await.map_err(|_| "cut")),
            Err(problem) => Err(problem.kind),
        };
        assert_eq!(got, expected.map(|text| if text == "cut" { Err("cut") } else { Ok(text.to_owned().into()) }));
    }

    #[tokio::test]
    async fn a_childs_output_is_the_answer_and_its_failure_a_problem() {
        check("echo one; echo two", 20, Ok("one\ntwo\n")).await;
        check("true", 20, Ok("")).await;
        check("echo wrong day >&2; exit 2", 20, Err(Kind::Invalid)).await;
        check("echo no database >&2; exit 7", 20, Err(Kind::Unavailable)).await;
        check("echo broken >&2; exit 1", 20, Err(Kind::Internal)).await;
        check("sleep 5", 1, Err(Kind::Unavailable)).await;
        check("echo half; sleep 0.1; exit 1", 20, Ok("cut")).await;
        check("head -c 300000 /dev/zero >&2; echo fine", 20, Ok("fine\n")).await;
    }

    #[test]
    fn the_message_is_found_in_what_a_command_says() {
        assert_eq!(message("WARN x\ntollway: there is no lake\n  Run `tollway lake export`.\n"), "there is no lake");
        assert_eq!(message(r#"{"error":"no day","hint":null,"exit_code":6}"#), "no day");
        assert_eq!(message("error: unexpected argument\n\nUsage: tollway\n"), "unexpected argument");
        assert_eq!(message("killed\n\n"), "killed");
    }

    #[tokio::test]
    async fn no_more_children_than_slots() {
        let shell = Children::new("/bin/sh".into(), vec!["-c".into()], 1, Duration::from_secs(5));
        let first = shell.run(vec!["echo x; sleep 1".to_owned()]).await.unwrap();
        assert_eq!(shell.run(vec!["true".to_owned()]).await.unwrap_err().kind, Kind::Limited);
        drop(first);
        assert!(shell.run(vec!["true".to_owned()]).await.is_ok());
    }
}
