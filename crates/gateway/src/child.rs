//! Reports and Parquet come from a child process: their libraries and their memory stay away from the gateway's.

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
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
/// By convention of our own commands: the arguments were wrong.
const EXIT_USAGE: i32 = 2;

/// How to run `tollway` as a child.
pub struct Children {
    program: PathBuf,
    /// Before every command's own arguments, such as `--config PATH`.
    first_args: Vec<OsString>,
    slots: Arc<Semaphore>,
    timeout: Duration,
}

/// A child that has begun to answer, or ended well.
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
        match answering.next().await {
            Ok(Some(first)) => {
                let rest = futures::stream::try_unfold(answering, |mut answering| async {
                    Ok::<_, io::Error>(answering.next().await?.map(|bytes| (bytes, answering)))
                });
                let first = futures::stream::once(async { Ok(first) });
                Ok(Body::from_stream(futures::StreamExt::chain(first, Box::pin(rest))))
            }
            Ok(None) => Ok(Body::empty()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Problem::unavailable("The report took too long. Ask for fewer days or fewer dimensions."))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(Problem::new(Kind::Invalid, error)),
            Err(error) => Err(Problem::internal(error)),
        }
    }
}

impl Answering {
    /// The next bytes; `None` when the child ended well.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let deadline = self.deadline;
        tokio::time::timeout_at(deadline, self.read())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "a child process took too long")))
    }

    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        if self.stdout.read_buf(&mut chunk).await? > 0 {
            return Ok(Some(chunk.freeze()));
        }
        let status = self.child.wait().await?;
        if status.success() {
            return Ok(None);
        }
        let words = (&mut self.stderr).await.unwrap_or_default();
        let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
        let kind = if status.code() == Some(EXIT_USAGE) { io::ErrorKind::InvalidInput } else { io::ErrorKind::Other };
        Err(io::Error::new(kind, last.to_owned()))
    }
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
    async fn check(script: &str, expected: Result<&str, Kind>) {
        let shell = Children::new("/bin/sh".into(), vec!["-c".into()], 1, Duration::from_secs(1));
        let got = match shell.run(vec![script.to_owned()]).await {
            Ok(body) => Ok(axum::body::to_bytes(body, 1 << 20).await.map_err(|_| "cut")),
            Err(problem) => Err(problem.kind),
        };
        assert_eq!(got, expected.map(|text| if text == "cut" { Err("cut") } else { Ok(text.to_owned().into()) }));
    }

    #[tokio::test]
    async fn a_childs_output_is_the_answer_and_its_failure_a_problem() {
        check("echo one; echo two", Ok("one\ntwo\n")).await;
        check("true", Ok("")).await;
        check("echo wrong day >&2; exit 2", Err(Kind::Invalid)).await;
        check("echo broken >&2; exit 1", Err(Kind::Internal)).await;
        check("sleep 5", Err(Kind::Unavailable)).await;
        check("echo half; sleep 0.1; exit 1", Ok("cut")).await;
        check("head -c 300000 /dev/zero >&2; echo fine", Ok("fine\n")).await;
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
