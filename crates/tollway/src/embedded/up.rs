//! Brings a postmaster up, whatever the last one left behind, and takes it down.

use std::{
    io::{Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    postmaster::{self, PidFile, PostmasterState, Status},
    settings,
    site::{PORT, Site},
};

/// Recovery after a crash replays up to `max_wal_size`; a slow disk takes minutes for it.
const START_TIMEOUT: Duration = Duration::from_secs(600);
/// How long children of a killed postmaster may run before they are terminated.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const LOG_MAX: u64 = 10 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Up {
    pub pid: i32,
    pub adopted: bool,
}

/// Returns when the server takes connections.
pub async fn bring_up(site: &Site) -> anyhow::Result<Up> {
    let began = Instant::now();
    let mut told = began;
    loop {
        let waits_for = match postmaster::look(&site.data) {
            PostmasterState::Alive(PidFile { pid, status: Status::Ready, socket_dir }) if socket_dir == site.run => {
                return Ok(Up { pid, adopted: true });
            }
            // Its folder was moved while it ran: nobody could reach it at the address that we know.
            PostmasterState::Alive(PidFile { status: Status::Ready, .. }) => {
                shut_down(site).await?;
                continue;
            }
            PostmasterState::Alive(PidFile { status: Status::Stopping, .. }) => "is shutting down",
            PostmasterState::Alive(PidFile { status: Status::Starting, .. }) => "is recovering",
            PostmasterState::Nothing | PostmasterState::Stale => match bury(site, began.elapsed())? {
                Grave::Empty => {
                    let pid = launch(site).await?;
                    return Ok(Up { pid, adopted: false });
                }
                Grave::Stirring => "was killed and its last processes are ending",
            },
        };
        if began.elapsed() > START_TIMEOUT {
            bail!(
                "the embedded database {waits_for} for {} minutes; its log: {}",
                START_TIMEOUT.as_secs() / 60,
                site.log.display()
            );
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            tracing::warn!("The embedded database {waits_for}; waiting for it");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

enum Grave {
    Empty,
    Stirring,
}

/// Clears what a dead postmaster left. PostgreSQL does so itself, unless the dead one's process id lives on: as a zombie,
/// or as another process.
fn bury(site: &Site, waited: Duration) -> anyhow::Result<Grave> {
    let orphans = postmaster::everyone_in(&site.data);
    if !orphans.is_empty() {
        if waited > ORPHAN_GRACE {
            for pid in orphans {
                // It may be gone by now.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        return Ok(Grave::Stirring);
    }
    let socket = format!(".s.PGSQL.{PORT}");
    for path in [site.data.join("postmaster.pid"), site.run.join(&socket), site.run.join(format!("{socket}.lock"))] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(Grave::Empty)
}

async fn launch(site: &Site) -> anyhow::Result<i32> {
    settings::write(site).await?;
    if std::fs::metadata(&site.log).is_ok_and(|log| log.len() > LOG_MAX) {
        std::fs::rename(&site.log, site.log.with_extension("old"))?;
    }
    let logged = std::fs::metadata(&site.log).map_or(0, |log| log.len());
    let output = site
        .command("pg_ctl")
        .args(["start", "-s", "-w", "-t", &START_TIMEOUT.as_secs().to_string(), "-D"])
        .arg(&site.data)
        .arg("-l")
        .arg(&site.log)
        .arg("-o")
        .arg(format!("-c config_file={} -p {PORT}", shell_quoted(&site.conf)?))
        .output()
        .await
        .context("cannot run pg_ctl")?;
    match postmaster::look(&site.data) {
        PostmasterState::Alive(file) if output.status.success() => Ok(file.pid),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!(
                "PostgreSQL did not start: {}\n{}\n(its log: {})",
                said.trim(),
                since(&site.log, logged).trim(),
                site.log.display()
            )
        }
    }
}

/// Fast: open transactions are rolled back, what was committed is on disk. Nothing to do when none runs.
pub async fn shut_down(site: &Site) -> anyhow::Result<()> {
    let PostmasterState::Alive(_) = postmaster::look(&site.data) else { return Ok(()) };
    let output = site
        .command("pg_ctl")
        .args(["stop", "-s", "-m", "fast", "-w", "-t", "120", "-D"])
        .arg(&site.data)
        .output()
        .await
        .context("cannot run pg_ctl")?;
    match postmaster::look(&site.data) {
        PostmasterState::Alive(file) => bail!(
            "the embedded database (process {}) is still shutting down: {}",
            file.pid,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        PostmasterState::Nothing | PostmasterState::Stale => Ok(()),
    }
}

/// `pg_ctl` hands its options to a shell.
fn shell_quoted(path: &Path) -> anyhow::Result<String> {
    let text = std::str::from_utf8(path.as_os_str().as_bytes())
        .with_context(|| format!("{} is not UTF-8; choose another folder with --data DIR", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// What the log gained since it had `from` bytes, at most its last 4 KiB.
fn since(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(4096)).min(end)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    read().map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}
