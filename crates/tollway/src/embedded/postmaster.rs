//! Which server runs in a data directory. `postmaster.pid` says who did; only the process itself proves that it still
//! does: its id may have gone to somebody else, or stand for a zombie, which PostgreSQL and `kill -0` both take for
//! alive.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Starting,
    Ready,
    Stopping,
}

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    pub pid: i32,
    pub socket_dir: PathBuf,
    pub status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostmasterState {
    Nothing,
    /// The postmaster lives.
    Alive(PidFile),
    /// The postmaster died and left its file.
    Stale,
}

pub fn look(data: &Path) -> PostmasterState {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return PostmasterState::Nothing };
    match parse(&text) {
        Some(file) if runs_in(file.pid, data) => PostmasterState::Alive(file),
        _ => PostmasterState::Stale,
    }
}

/// Lines: pid, data directory, start time, port, socket directory, address, shared memory key, status. They are written
/// one after the other while the server starts.
fn parse(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let socket_dir = lines.nth(3).unwrap_or_default().into();
    let status = match lines.nth(2).unwrap_or_default().trim() {
        "ready" | "standby" => Status::Ready,
        "stopping" => Status::Stopping,
        _ => Status::Starting,
    };
    Some(PidFile { pid, socket_dir, status })
}

/// A living PostgreSQL process whose working directory is `data`, as that of every PostgreSQL process is.
#[cfg(target_os = "linux")]
pub fn runs_in(pid: i32, data: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    // A zombie has no working directory any more.
    std::fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == data)
        && std::fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.starts_with("postgres"))
}

#[cfg(not(target_os = "linux"))]
pub fn runs_in(pid: i32, _data: &Path) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
}

/// PostgreSQL processes in `data`. When its postmaster was killed, its children take a moment to notice, and no new
/// postmaster may start before they are gone.
#[cfg(target_os = "linux")]
pub fn everyone_in(data: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| runs_in(*pid, data)).collect()
}

#[cfg(not(target_os = "linux"))]
pub fn everyone_in(_data: &Path) -> Vec<i32> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_however_far_it_was_written() {
        let whole = "4242\n/d/data\n1795000000\n5432\n/d/run\n\n  5432001 7\nready   \n";
        let ready = PidFile { pid: 4242, socket_dir: "/d/run".into(), status: Status::Ready };
        assert_eq!(parse(whole), Some(ready));
        assert_eq!(parse(&whole.replace("ready   ", "stopping")).unwrap().status, Status::Stopping);
        let begun = parse("4242\n/d/data\n1795000000\n5432\n").unwrap();
        assert_eq!((begun.pid, begun.status), (4242, Status::Starting));
        assert_eq!(parse(""), None);
        assert_eq!(parse("garbage\n"), None);
    }

    #[test]
    fn a_process_elsewhere_is_not_the_postmaster() {
        let dir = tempfile::tempdir().unwrap();
        let file = format!("{}\n{}\n0\n5432\n/run\n\n0 0\nready   \n", std::process::id(), dir.path().display());
        std::fs::write(dir.path().join("postmaster.pid"), file).unwrap();
        assert_eq!(look(dir.path()), PostmasterState::Stale);
        assert_eq!(look(Path::new("/no/such/folder")), PostmasterState::Nothing);
    }
}
