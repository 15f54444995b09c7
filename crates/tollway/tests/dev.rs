//! `tollway dev` as a developer uses it: one command, then others beside it; killed, and started again.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A machine of its own: home, data and profile are in one folder.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        // PostgreSQL's user must be able to enter it.
        let dir = tempfile::Builder::new().prefix("tollway-dev-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tollway(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollway"));
        for (name, _) in std::env::vars() {
            if name.starts_with("TOLLWAY_") || name == "DATABASE_URL" {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(self.0.path()).env_remove("XDG_CONFIG_HOME");
        command.env("HOME", self.0.path()).env("TOLLWAY_DATA", self.path("data")).stdin(Stdio::null());
        command
    }

    /// Runs until it says that it is ready.
    fn dev(&self) -> Dev {
        let mut child = self
            .tollway(&["dev", "--listen", "127.0.0.1:0", "--output", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("dev did not start: {line:?}"));
        Dev { child, ready }
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Output {
        let output = self.tollway(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn profile(&self) -> toml::Table {
        std::fs::read_to_string(self.path(".config/tollway/profile.toml")).unwrap().parse().unwrap()
    }

    fn postmaster(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.path("data/postgres/data/postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }
}

struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn one_command_and_a_job_runs_to_its_report() {
    let machine = Machine::new();
    let dev = machine.dev();
    assert_eq!(dev.ready["embedded_database"], true);
    assert_eq!(mode(&machine.path(".config/tollway/profile.toml")), 0o600);
    for secret in ["pepper", "admin-key", "database-url", "dev.toml"] {
        assert_eq!(mode(&machine.path("data").join(secret)), 0o600, "{secret}");
    }

    let sample = dev.ready["sample"].as_str().unwrap();
    let watched = machine.run(&["submit", sample, "--tag", "feature=hello", "--watch"]);
    assert!(String::from_utf8_lossy(&watched.stdout).contains("100 succeeded"));
    let job = machine.json(&["jobs", "list"])[0]["id"].as_str().unwrap().to_owned();
    let results = machine.run(&["jobs", "results", &job]);
    assert_eq!(String::from_utf8_lossy(&results.stdout).lines().count(), 100);
    let last = machine.run(&["jobs", "results", &job, "--from", "100"]);
    assert!(String::from_utf8_lossy(&last.stdout).contains("\"custom_id\":\"hello-100\""));

    // The gateway exports by itself, every 15 s; meanwhile the lake is busy.
    let exported = loop {
        let output = machine.tollway(&["lake", "export"]).output().unwrap();
        if output.status.code() != Some(7) {
            break output;
        }
    };
    assert!(exported.status.success(), "{exported:?}");
    let verified = machine.json(&["lake", "verify"]);
    assert_eq!((&verified["lake"]["rows"], &verified["waiting"]), (&100.into(), &0.into()));
    let spend = machine.run(&["report", "spend", "--by", "team,feature", "--output", "csv"]);
    assert!(String::from_utf8_lossy(&spend.stdout).contains("dev,hello,"), "{spend:?}");

    // The key works through the gateway; the one made through the database too.
    let made = machine.json(&["keys", "create", "--bootstrap", "--team", "ops", "--name", "first"]);
    let url = dev.ready["url"].as_str().unwrap();
    let lanes = machine
        .tollway(&["lanes"])
        .env("TOLLWAY_URL", url)
        .env("TOLLWAY_API_KEY", made["key"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(lanes.status.success(), "{}", String::from_utf8_lossy(&lanes.stderr));
    dev.stop();
    assert_eq!(machine.postmaster(), None, "the database outlived dev");
}

#[test]
fn a_killed_dev_is_taken_up_again() {
    let machine = Machine::new();
    let dev = machine.dev();
    let (key, postmaster) = (machine.profile()["api_key"].clone(), machine.postmaster());
    let second = machine.tollway(&["dev", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another `tollway dev`"), "{second:?}");
    dev.kill();

    let dev = machine.dev();
    assert_eq!(machine.postmaster(), postmaster, "the running database was not adopted");
    assert_eq!(machine.profile()["api_key"], key, "a new key was made without need");
    machine.run(&["lanes"]);
    dev.stop();
}

#[test]
fn a_profile_that_somebody_wrote_is_left_alone() {
    let machine = Machine::new();
    let path = machine.path(".config/tollway/profile.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let own = "url = 'https://tollway.example.com'\napi_key = 'tw_own'\n";
    std::fs::write(&path, own).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let dev = machine.dev();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
    let lanes =
        machine.tollway(&["lanes"]).env("TOLLWAY_PROFILE", dev.ready["profile"].as_str().unwrap()).output().unwrap();
    assert!(lanes.status.success(), "{}", String::from_utf8_lossy(&lanes.stderr));
    dev.stop();
}
