//! The commands as scripts use them: exit codes, what goes where, and sentences that help.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

/// The binary in an empty folder, with nothing of our environment that it would heed.
fn tollway(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollway"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("TOLLWAY_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.env("HOME", dir).env_remove("XDG_CONFIG_HOME");
    command
}

#[track_caller]
fn check(command: &mut Command, code: i32, says: &str) -> Output {
    let output = command.output().unwrap();
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(all.contains(says), "{all}");
    output
}

/// A gateway that gives every request this answer.
fn answers(head: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let _ =
                write!(&stream, "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        }
    });
    url
}

#[test]
fn wrong_arguments_are_2() {
    let dir = tempfile::tempdir().unwrap();
    check(tollway(dir.path()).arg("jbos"), 2, "a similar subcommand exists: 'jobs'");
    check(tollway(dir.path()).args(["jobs", "show", "42"]), 2, "is not an id of the form job_<13 characters>");
    check(tollway(dir.path()).args(["lanes", "--output", "csv"]), 2, "only reports");
    check(tollway(dir.path()).args(["submit", "x", "--tag", "feature"]), 2, "key=value");
    check(tollway(dir.path()).args(["submit", "x", "--deadline", "soon"]), 2, "neither a time");
    check(tollway(dir.path()).args(["serve", "--role", "cron"]), 2, "api, worker or maintenance");
    check(tollway(dir.path()).args(["jobs", "delete", "job_0000000000001"]), 2, "give --yes");
    check(tollway(dir.path()).arg("--help"), 0, "Exit codes:");
}

#[test]
fn a_gateway_that_is_not_there_is_7() {
    let dir = tempfile::tempdir().unwrap();
    let url = "http://127.0.0.1:1";
    check(tollway(dir.path()).arg("lanes").env("TOLLWAY_URL", url), 7, "no gateway answers at http://127.0.0.1:1/");
    let json = check(tollway(dir.path()).args(["lanes", "--output", "json"]).env("TOLLWAY_URL", url), 7, "");
    let failure: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(failure["exit_code"], 7);
    assert!(json.stdout.is_empty());
}

#[test]
fn answers_become_exit_codes_and_sentences() {
    let dir = tempfile::tempdir().unwrap();
    for (head, body, code, says) in [
        ("401 Unauthorized", r#"{"detail":"no API key"}"#, 5, "Set TOLLWAY_API_KEY"),
        ("403 Forbidden", r#"{"detail":"A key of role read may not do this."}"#, 5, "may not do this"),
        ("404 Not Found", r#"{"detail":"There is no job job_0000000000001."}"#, 4, "There is no job"),
        ("409 Conflict", r#"{"detail":"It is completed."}"#, 6, "It is completed"),
        (
            "422 Unprocessable Entity",
            r#"{"detail":"Line 7: body: no model.","line":7}"#,
            6,
            "tollway: Line 7: body: no model\n",
        ),
        ("429 Too Many Requests\r\nretry-after: 3", r#"{"detail":"slots"}"#, 7, "Try again in 3 s."),
        ("500 Internal Server Error", "<html>", 1, "answered 500"),
        ("200 OK", "<html>", 1, "does not understand"),
    ] {
        let mut command = tollway(dir.path());
        command.args(["jobs", "show", "job_0000000000001"]).env("TOLLWAY_URL", answers(head, body));
        check(&mut command, code, says);
    }
}

#[test]
fn a_wrong_configuration_is_6_and_placed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tollway.toml"), "[worker]\nslot = 3\n").unwrap();
    check(
        tollway(dir.path()).arg("check-config"),
        6,
        "tollway.toml:2: unknown key worker.slot; did you mean worker.slots?",
    );
    std::fs::write(dir.path().join("tollway.toml"), "[routes.a]\ndeployments = ['b']\n").unwrap();
    check(tollway(dir.path()).arg("check-config"), 6, "route \"a\" names the deployment \"b\", which is not declared");
    check(tollway(dir.path()).args(["check-config", "--config", "other.toml"]), 6, "other.toml cannot be read");
    std::fs::remove_file(dir.path().join("tollway.toml")).unwrap();
    check(tollway(dir.path()).arg("check-config"), 0, "There are no routes");
    check(tollway(dir.path()).arg("migrate"), 6, "set DATABASE_URL");
    let nowhere = "postgres://u:canary@127.0.0.1:1/d";
    let output = check(tollway(dir.path()).arg("migrate").env("DATABASE_URL", nowhere), 7, "cannot be reached");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"));
    let output = check(tollway(dir.path()).arg("migrate").env("DATABASE_URL", "canary"), 6, "must have the form");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"));
}

#[test]
fn a_dry_run_needs_no_gateway_to_find_bad_lines() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"e5","input":"x"}}"#;
    let file = dir.path().join("requests.jsonl");
    std::fs::write(&file, format!("{line}\n{line}\n{{}}\n")).unwrap();
    let dry = |file: &str| {
        let mut command = tollway(dir.path());
        command.args(["submit", file, "--dry-run"]).env("TOLLWAY_URL", "http://127.0.0.1:1");
        command
    };
    let output = check(&mut dry("requests.jsonl"), 6, "line 2: custom_id \"a\" stands there twice");
    assert!(String::from_utf8_lossy(&output.stdout).contains("line 3: "));
    std::fs::write(&file, line).unwrap();
    check(&mut dry("requests.jsonl"), 0, "1 requests for e5");
    check(&mut dry("missing.jsonl"), 4, "missing.jsonl");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        tollway(dir.path()).args(["check-config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// A place that is no lake is an error and not a report without calls; nothing is made by looking.
#[test]
fn a_report_on_a_place_that_is_no_lake_is_4() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    for place in ["/nope/lake", "nope", "empty"] {
        let ran = check(tollway(dir.path()).args(["report", "spend", "--lake", place]), 4, "there is no lake at ");
        assert!(ran.stdout.is_empty());
    }
    assert!(!dir.path().join("nope").exists());
    let json = check(tollway(dir.path()).args(["report", "spend", "--lake", "empty", "--output", "json"]), 4, "");
    let failure: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(failure["exit_code"], 4);
    // The configured lake, of which no database says that nothing was exported yet.
    check(tollway(dir.path()).args(["report", "spend"]).env("TOLLWAY_DATA", dir.path()), 4, "there is no lake at ");
}

#[test]
fn a_lake_whose_ledger_nobody_can_ask_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("_manifest.json"),
        r#"{"schema_version":1,"updated_at":"2026-11-22T12:00:00Z","sealed_through":null,"files":[]}"#,
    )
    .unwrap();
    let report = |output: &str| {
        let mut command = tollway(dir.path());
        command.args(["report", "spend", "--lake", ".", "--output", output]);
        command
    };
    let said = "the lake was last written to at 2026-11-22 12:00:00 UTC";
    check(&mut report("human"), 0, said);
    let csv = check(&mut report("csv"), 0, said);
    assert!(String::from_utf8_lossy(&csv.stderr).contains(said) && csv.stdout.starts_with(b"requests,"));
    let json = check(&mut report("json"), 0, "");
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["lake"]["rows_behind"], serde_json::Value::Null);
    assert_eq!(report["lake"]["updated_at"], "2026-11-22T12:00:00Z");
}
