//! A simulator on a port of its own, and short words for calling it.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use simulator::{Config, JournalLine, Outcome, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub type Line = JournalLine<'static>;

pub struct TestSim {
    pub client: Client,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

pub const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

pub async fn start(config: Config) -> TestSim {
    // Without a provider of cryptography reqwest builds no client, not even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    TestSim {
        client: Client::builder().no_proxy().build().expect("a client"),
        address,
        stop: Some(stop),
        task: tokio::spawn(simulator::serve(listener, config, shutdown)),
    }
}

impl TestSim {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(self.url(path)).body(body)
    }

    pub fn chat(&self) -> RequestBuilder {
        self.post("/v1/chat/completions", ASK)
    }

    pub async fn status(&self, request: RequestBuilder) -> u16 {
        request.send().await.expect("an answer").status().as_u16()
    }

    pub async fn patch(&self, fields: Value) {
        let response = self.client.patch(self.url("/sim/config")).json(&fields).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200, "{}", response.text().await.expect("text"));
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.expect("an answer")
    }

    pub async fn lines(&self, path: &str) -> Vec<Line> {
        let text = self.get(path).await.text().await.expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
    }

    pub async fn journal(&self) -> Vec<Line> {
        self.lines("/sim/journal").await
    }

    /// The journal's only line.
    pub async fn only_line(&self) -> Line {
        let [line] = <[Line; 1]>::try_from(self.journal().await).expect("one call");
        line
    }

    pub async fn stats(&self) -> Stats {
        self.get("/sim/stats").await.json().await.expect("statistics")
    }

    /// Waits until no call is open, and returns the only line.
    pub async fn only_line_at_rest(&self) -> Line {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.stats().await.all.in_flight > 0 {
            assert!(Instant::now() < deadline, "a call never ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.only_line().await
    }

    /// Sends one request by hand and returns every byte until the simulator closes the socket.
    pub async fn raw(&self, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).await.expect("connect");
        let request =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await.expect("write");
        let mut bytes = Vec::new();
        let reading = socket.read_to_end(&mut bytes);
        let ended = tokio::time::timeout(Duration::from_secs(5), reading).await;
        ended.expect("the socket stays open").expect("read");
        String::from_utf8(bytes).expect("UTF-8")
    }

    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.expect("no panic").expect("a clean end");
    }
}

pub fn with(fields: Value) -> Config {
    serde_json::from_value(fields).expect("a configuration")
}

pub fn streamed() -> String {
    let mut body: Value = serde_json::from_str(ASK).expect("JSON");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body.to_string()
}

#[track_caller]
pub fn assert_ended(line: &Line, outcome: Outcome, status: Option<u16>) {
    assert_eq!((line.outcome, line.status), (outcome, status), "{line:?}");
    assert!(line.ended_us.is_some());
}
