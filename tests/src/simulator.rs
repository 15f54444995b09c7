//! The provider: a `tollway simulate` process, steered over HTTP.

use std::{
    io::{BufRead, BufReader},
    ops::RangeInclusive,
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use simulator::{JournalLine, Stats};

use crate::{binary, client, polling::until, process::Process};

pub struct Simulator {
    pub url: String,
    http: reqwest::Client,
    _process: Process,
}

impl Simulator {
    pub fn start(dir: &Path) -> Self {
        let mut command = binary::command();
        command.args(["--output", "json", "simulate", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, &dir.join("simulator.log"), "KILL");
        let mut said = String::new();
        let stdout = process.child().stdout.take().expect("its output is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("its output can be read");
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let url = said["url"].as_str().expect("it says where it is").to_owned();
        Self { url, http: client::http(), _process: process }
    }

    /// Where the deployment of this name is.
    pub fn base_url(&self, deployment: &str) -> String {
        format!("{}/d/{deployment}/v1", self.url)
    }

    /// Changes fields of a deployment's behaviour; `null` resets one.
    pub async fn set(&self, deployment: &str, fields: Value) {
        let request = self.http.patch(format!("{}/sim/d/{deployment}/config", self.url));
        self.accepted(request.body(fields.to_string())).await;
    }

    /// Every answer of the deployment takes so long.
    pub async fn set_latency(&self, deployment: &str, ms: u64) {
        self.set(deployment, json!({"latency": {"kind": "fixed", "ms": ms}})).await;
    }

    /// Every answer of the deployment has five hundred tokens, and takes this many milliseconds.
    pub async fn answers_long(&self, deployment: &str, ms: RangeInclusive<u64>) {
        let latency = json!({"kind": "uniform", "min_ms": ms.start(), "max_ms": ms.end()});
        self.set(deployment, json!({"answer_tokens": 500, "latency": latency})).await;
    }

    /// Calls are refused from now on, for a while.
    pub async fn outage(&self, deployment: &str, status: u16, length: Duration, retry_after_s: Option<u64>) {
        let outage = json!({
            "deployment": deployment, "status": status, "for_ms": length.as_millis() as u64, "retry_after_s": retry_after_s,
        });
        self.accepted(self.http.post(format!("{}/sim/outage", self.url)).body(outage.to_string())).await;
    }

    /// Every call so far, in the order of arrival.
    pub async fn journal(&self) -> Vec<JournalLine<'static>> {
        let answer = self.http.get(format!("{}/sim/journal", self.url)).send().await.expect("the simulator answers");
        let text = answer.text().await.expect("the journal comes whole");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// What the deployment charged for all calls, by its own journal: tokens at these prices, in pico-USD.
    pub async fn charged(&self, deployment: &str, input: i128, output: i128) -> i128 {
        let journal = self.journal().await;
        let calls = journal.iter().filter(|call| call.deployment == deployment);
        calls.map(|call| i128::from(call.prompt_tokens) * input + i128::from(call.completion_tokens) * output).sum()
    }

    pub async fn stats(&self) -> Stats {
        let answer = self.http.get(format!("{}/sim/stats", self.url)).send().await.expect("the simulator answers");
        serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("statistics")
    }

    /// Calls that arrived so far.
    pub async fn calls(&self) -> u64 {
        self.stats().await.all.calls
    }

    /// Waits until so many calls have arrived.
    pub async fn has_seen(&self, calls: u64) {
        let what = format!("{calls} calls at the provider");
        until(&what, Duration::from_secs(120), async || (self.calls().await >= calls).then_some(())).await;
    }

    async fn accepted(&self, request: reqwest::RequestBuilder) {
        let answer = request.send().await.expect("the simulator answers");
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    }
}
