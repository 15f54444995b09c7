//! A caller of the gateway: a key and HTTP.

use std::time::{Duration, Instant};

use reqwest::{Body, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

use crate::{
    polling::{SOON, until},
    requests::parse_lines,
};

/// Jobs of these tests end within this.
const JOB_TIMEOUT: Duration = Duration::from_secs(150);

/// A client that no proxy of the environment comes in the way of.
pub fn http() -> reqwest::Client {
    // A second install would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("an HTTP client")
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
    pub key: String,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(url: &str, key: &str) -> Self {
        Self { http: http(), url: url.to_owned(), key: key.to_owned() }
    }

    /// The same caller at another replica.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// `path` begins with a slash and may have a query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        send(self.request(Method::POST, path).body(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).body(body.to_string())).await
    }
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// Submits lines and gives the new job's id. `query` begins with `?`, or is empty.
    pub async fn submit(&self, query: &str, lines: impl Into<Body>) -> String {
        let job = self.post(&format!("/api/v1/jobs{query}"), lines).await.expect(202).json();
        job["id"].as_str().expect("a job has an id").to_owned()
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).await.expect(200).json()
    }

    /// Waits until the job is as `fits` wants it, over restarts of the gateway too.
    pub async fn job_when(&self, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = LastSeen(Value::Null);
        until(&format!("{id} {what}"), JOB_TIMEOUT, async || {
            let answer = try_send(self.request(Method::GET, &format!("/api/v1/jobs/{id}"))).await.ok()?;
            last.0 = (answer.status == 200).then(|| answer.json())?;
            fits(&last.0).then(|| last.0.clone())
        })
        .await
    }

    /// Waits until the job has ended.
    pub async fn ended(&self, id: &str) -> Value {
        let ends = ["completed", "cancelled", "expired"];
        self.job_when(id, "to end", |job| ends.iter().any(|end| job["state"] == **end)).await
    }

    /// Result lines. `query` begins with `?`, or is empty.
    pub async fn results(&self, id: &str, query: &str) -> Vec<Value> {
        parse_lines(&self.get(&format!("/api/v1/jobs/{id}/results{query}")).await.expect(200).text())
    }

    /// The ledger rows of a synchronous call, when they are there.
    pub async fn call(&self, request_id: &str) -> Value {
        until(&format!("the ledger's row of {request_id}"), SOON, async || {
            let answer = self.get(&format!("/api/v1/calls/{request_id}")).await;
            (answer.status == 200).then(|| answer.json())
        })
        .await
    }

    pub async fn chat(&self, body: impl Into<Body>) -> Answer {
        self.post("/v1/chat/completions", body).await
    }

    /// The same under a budget, sent again on 503: on a busy machine its grant takes longer than a call waits for it.
    pub async fn budgeted_chat(&self, body: &str) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.chat(body.to_owned()).await;
            if answer.status != 503 || began.elapsed() > SOON {
                return answer;
            }
        }
    }

    pub async fn embeddings(&self, body: impl Into<Body>) -> Answer {
        self.post("/v1/embeddings", body).await
    }
}

/// What keeps a job paused.
pub fn paused_by(job: &Value) -> Vec<&str> {
    job["paused_by"].as_array().expect("a list").iter().filter_map(|hold| hold["by"].as_str()).collect()
}

/// Sends it and takes the whole answer.
pub async fn send(request: RequestBuilder) -> Answer {
    try_send(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

pub async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes().await?.into() })
}

impl Answer {
    /// Fails the test unless the answer has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Who waits in vain says what for, and how it stood.
struct LastSeen(Value);

impl Drop for LastSeen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last seen: {}", self.0);
        }
    }
}
