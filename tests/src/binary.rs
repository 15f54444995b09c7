//! The program under test, and running its commands to their end.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// `TOLLWAY_BIN`, else the one that was built beside this test.
pub fn tollway() -> PathBuf {
    let path = match std::env::var_os("TOLLWAY_BIN") {
        Some(path) => path.into(),
        None => {
            let test = std::env::current_exe().expect("a running test has a path");
            // target/debug/deps/stories-… → target/debug/tollway
            test.ancestors().nth(2).expect("it lies in target/debug/deps").join("tollway")
        }
    };
    assert!(path.is_file(), "{} is not there: run `cargo build -p tollway` first", path.display());
    path
}

/// Variables by which the surroundings of the test would reach into the program.
const FOREIGN: [&str; 8] = [
    "DATABASE_URL",
    "TOLLWAY_API_KEY",
    "TOLLWAY_CONFIG",
    "TOLLWAY_DATA",
    "TOLLWAY_LOG",
    "TOLLWAY_PROFILE",
    "TOLLWAY_URL",
    "XDG_CONFIG_HOME",
];

/// The program, to be given its arguments.
pub fn command() -> Command {
    without_foreign(Command::new(tollway()))
}

/// The same in a process that may open at most so many files.
pub fn command_with(descriptors: u64) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")).arg(tollway());
    without_foreign(command)
}

fn without_foreign(mut command: Command) -> Command {
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless the command ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Runs a command to its end.
pub async fn run(command: Command) -> Ran {
    let mut command = tokio::process::Command::from(command);
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await.expect("the command starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
}
