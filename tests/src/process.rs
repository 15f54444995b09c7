//! A child process that never outlives its owner.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::leash;

/// Lines of its log that a failed test shows.
const LAST_WORDS: usize = 40;

pub struct Process {
    child: Child,
    /// What ends it when the whole test run dies: `INT` where it has to clear up after itself.
    emergency: &'static str,
    log: PathBuf,
}

impl Process {
    /// Standard error goes to the end of the file `log`, and so does standard output unless `command` says otherwise.
    pub fn start(command: &mut Command, log: &Path, emergency: &'static str) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stderr(append(log))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().to_string_lossy()));
        leash::keep(emergency, child.id());
        Self { child, emergency, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits"));
        // One that has ended meanwhile is a zombie of ours: its id is not given to another.
        let _ = kill(pid, signal);
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// kill -9, and the zombie is gone too.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("a child can be waited for");
        leash::release(self.emergency, self.pid());
    }

    /// Sends a signal and waits for the end; after `patience` it is killed, and the test fails.
    pub fn end(&mut self, signal: Signal, patience: Duration) -> ExitStatus {
        self.signal(signal);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                leash::release(self.emergency, self.pid());
                return status;
            }
            if Instant::now() >= deadline {
                self.kill9();
                panic!("process {} did not end within {patience:?} after {signal}", self.pid());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n");
            eprintln!("--- {} ends with ---\n{shown}\n---", self.log.display());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill9();
        }
    }
}

/// The end of a log file, for a child to write to.
pub fn append(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
}
