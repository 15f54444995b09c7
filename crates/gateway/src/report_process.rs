//! Reports and Parquet come from a child process: their libraries and their memory stay away from the gateway's. A child writes
//! into a spool, so it ends, and frees its place, however slowly its answer is read; its time runs without the reader too.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    problem::{Kind, Problem},
    spool::{Full, Spool, Spools},
};

const CHUNK: usize = 64 << 10;
/// Output that waits for its readers, of all teams: half of it holds a million vectors of 1,536 dimensions.
const SPOOL: u64 = 16 << 30;
/// As much of a child's last words as is kept.
const LAST_WORDS: u64 = 8 << 10;
/// How long a report waits for a place: most reports take seconds.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);

/// How to run `tollway` as a child.
pub struct Children {
    program: PathBuf,
    /// Before every command's own arguments, such as `--config PATH`.
    first_args: Vec<OsString>,
    slots: Arc<Slots>,
    timeout: Duration,
    spools: Arc<Spools>,
}

/// Places for children; a team has half of them at most, so that its reports never keep another team's waiting.
struct Slots {
    most: usize,
    taken: Mutex<HashMap<i64, usize>>,
    freed: Notify,
}

/// Free again when it is dropped.
struct Slot {
    team_id: i64,
    slots: Arc<Slots>,
}

/// How a child failed, by the exit codes of our own commands.
#[derive(Debug)]
enum Failed {
    /// 2, 6: what was asked for.
    Refused(String),
    /// 7: passes by itself.
    Unavailable(String),
    TookTooLong,
    TooLarge(Full),
    Other(String),
}

impl Children {
    /// At most `most` at once, each for at most `timeout`; their output is kept until it is read.
    pub fn new(program: PathBuf, first_args: Vec<OsString>, most: usize, timeout: Duration) -> Self {
        let slots = Arc::new(Slots { most, taken: Mutex::default(), freed: Notify::new() });
        Self { program, first_args, slots, timeout, spools: Spools::new(SPOOL) }
    }

    /// Runs a command for a team and gives its standard output once all of it is there. A caller that goes away before ends the
    /// child.
    pub async fn run(&self, team_id: i64, args: Vec<String>) -> Result<Body, Problem> {
        let slot = self.slots.take(team_id).await?;
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
        let stderr = tokio::spawn(last_words(stderr));
        let done = timeout(self.timeout, spooled(child, stdout, stderr, self.spools.open(team_id))).await;
        drop(slot);
        Ok(done.unwrap_or(Err(Failed::TookTooLong))?.into_body())
    }
}

/// Everything that the child writes, once it has ended well.
async fn spooled(
    mut child: Child,
    mut stdout: impl AsyncRead + Unpin,
    stderr: JoinHandle<String>,
    mut spool: Spool,
) -> Result<Spool, Failed> {
    let broken = |error: io::Error| Failed::Other(error.to_string());
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        if stdout.read_buf(&mut chunk).await.map_err(broken)? == 0 {
            break;
        }
        spool = spool.append(chunk.freeze()).await.map_err(broken)?.map_err(Failed::TooLarge)?;
    }
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(spool);
    }
    let said = message(&stderr.await.unwrap_or_default());
    Err(match status.code() {
        Some(2 | 6) => Failed::Refused(said),
        Some(7) => Failed::Unavailable(said),
        _ => Failed::Other(format!("{status}: {said}")),
    })
}

impl Slots {
    async fn take(self: &Arc<Self>, team_id: i64) -> Result<Slot, Problem> {
        let deadline = Instant::now() + ADMISSION_TIMEOUT;
        loop {
            let freed = self.freed.notified();
            let full = match self.try_take(team_id) {
                Ok(slot) => return Ok(slot),
                Err(full) => full,
            };
            if timeout_at(deadline, freed).await.is_err() {
                return Err(Problem::new(Kind::Limited, full).retry_after(Duration::from_secs(2)));
            }
        }
    }

    fn try_take(self: &Arc<Self>, team_id: i64) -> Result<Slot, &'static str> {
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= self.most {
            return Err("As many reports as this replica runs at once are under way.");
        }
        let of_team = taken.entry(team_id).or_default();
        if *of_team >= self.most.div_ceil(2) {
            return Err("This team has as many reports under way as it may have at once.");
        }
        *of_team += 1;
        Ok(Slot { team_id, slots: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        if let Some(of_team) = taken.get_mut(&self.team_id) {
            *of_team -= 1;
            if *of_team == 0 {
                taken.remove(&self.team_id);
            }
        }
        drop(taken);
        self.slots.freed.notify_waiters();
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(said) => Self::new(Kind::Invalid, said),
            Failed::Unavailable(said) => Self::unavailable(said),
            Failed::TookTooLong => Self::unavailable("It took too long. Ask for fewer days or fewer dimensions."),
            Failed::TooLarge(Full { most }) => Self::new(
                Kind::TooLarge,
                format_args!(
                    "It has more than {most} bytes together with what this team's other readers have not read yet. Ask for \
                     less, or read the others to their ends first."
                ),
            )
            .with("limit", most),
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
        let got = match shell.run(1, vec![script.to_owned()]).await {
            Ok(body) => Ok(axum::body::to_bytes(body, 1 << 20).await.unwrap()),
            Err(problem) => Err(problem.kind),
        };
        assert_eq!(got, expected.map(|text| text.to_owned().into()), "{script}");
    }

    #[tokio::test]
    async fn a_childs_output_is_the_answer_and_its_failure_a_problem() {
        check("echo one; echo two", 20, Ok("one\ntwo\n")).await;
        check("true", 20, Ok("")).await;
        check("echo wrong day >&2; exit 2", 20, Err(Kind::Invalid)).await;
        check("echo no database >&2; exit 7", 20, Err(Kind::Unavailable)).await;
        check("echo broken >&2; exit 1", 20, Err(Kind::Internal)).await;
        check("sleep 5", 1, Err(Kind::Unavailable)).await;
        check("echo half; sleep 0.1; exit 1", 20, Err(Kind::Internal)).await;
        check("head -c 300000 /dev/zero >&2; echo fine", 20, Ok("fine\n")).await;
    }

    #[test]
    fn the_message_is_found_in_what_a_command_says() {
        assert_eq!(message("WARN x\ntollway: there is no lake\n  Run `tollway lake export`.\n"), "there is no lake");
        assert_eq!(message(r#"{"error":"no day","hint":null,"exit_code":6}"#), "no day");
        assert_eq!(message("error: unexpected argument\n\nUsage: tollway\n"), "unexpected argument");
        assert_eq!(message("killed\n\n"), "killed");
    }

    fn shell(most: usize) -> Arc<Children> {
        Arc::new(Children::new("/bin/sh".into(), vec!["-c".into()], most, Duration::from_secs(20)))
    }

    async fn run(shell: &Children, team_id: i64, script: &str) -> Result<Body, Problem> {
        shell.run(team_id, vec![script.to_owned()]).await
    }

    /// Far more than pipes and sockets hold, and nobody reads it.
    #[tokio::test]
    async fn a_reader_that_stalls_holds_no_place() {
        let shell = shell(2);
        let large = "head -c 20000000 /dev/zero";
        let stalled = [run(&shell, 1, large).await.unwrap(), run(&shell, 2, large).await.unwrap()];
        assert!(shell.slots.lock().is_empty(), "the children have ended");
        for team_id in [1, 2, 3] {
            assert!(run(&shell, team_id, "true").await.is_ok());
        }
        let [first, _] = stalled;
        assert_eq!(axum::body::to_bytes(first, usize::MAX).await.unwrap().len(), 20_000_000);
    }

    #[tokio::test]
    async fn a_team_has_half_of_the_places() {
        let shell = shell(2);
        let held = shell.slots.try_take(1).ok().unwrap();
        assert!(shell.slots.try_take(1).is_err());
        let other = shell.slots.try_take(2).ok().unwrap();
        assert!(shell.slots.try_take(3).is_err());
        drop((held, other));
        assert!(shell.slots.try_take(1).is_ok());
    }

    #[tokio::test]
    async fn a_report_waits_for_a_place_for_a_moment() {
        let shell = shell(1);
        let held = shell.slots.try_take(1).ok().unwrap();
        let waiting = tokio::spawn({
            let shell = Arc::clone(&shell);
            async move { run(&shell, 2, "true").await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_ends_the_child() {
        let shell = shell(1);
        let running = tokio::spawn({
            let shell = Arc::clone(&shell);
            async move { run(&shell, 1, "sleep 60").await.is_ok() }
        });
        while shell.slots.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        running.abort();
        assert!(running.await.is_err());
        assert!(shell.slots.lock().is_empty());
    }
}
