//! HTTP to the gateway. Problems come back as sentences.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    exit::Exit,
    failure::{Failure, Outcome},
};
use crate::profile::{self, Gateway};

/// The longest silence of the gateway; streams send something more often.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub data: Vec<T>,
    #[serde(default, alias = "next_cursor")]
    pub next: Option<String>,
}

/// RFC 9457, with what Tollway adds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    line: Option<i64>,
    known: Option<Vec<String>>,
}

impl Client {
    /// By the environment or the profile.
    pub fn find() -> Outcome<Self> {
        let gateway = profile::gateway().map_err(|error| Failure::new(Exit::Refused, format_args!("{error:#}")))?;
        Self::new(gateway)
    }

    pub fn new(gateway: Gateway) -> Outcome<Self> {
        let bad_url = |error: String| Failure::usage(format_args!("TOLLWAY_URL: {:?} {error}", gateway.url));
        let base = Url::parse(&gateway.url).map_err(|error| bad_url(format!("is not a URL: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad_url("must begin with http:// or https://".to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")));
        // A proxy of the environment is for the world outside.
        if base.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Failure::new(Exit::Failed, error))?;
        Ok(Self { http, base, key: gateway.key })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A request with the key. `path` has no leading slash and only characters that a path takes.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        }
    }

    /// Sends it; anything but success is a failure.
    pub async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    pub async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Outcome<T> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format_args!("{} answered what this version does not understand: {error}", self.base),
            )
        })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Outcome<T> {
        self.read(self.request(Method::GET, path).query(query)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Outcome<T> {
        self.read(self.request(Method::POST, path).json(body)).await
    }

    /// Nothing of it, or not all of it, got through.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason = innermost(error);
        if error.is_connect() {
            return Failure::new(Exit::Unavailable, format_args!("no gateway answers at {} ({reason})", self.base))
                .hint("Start one with `tollway dev`, or say where it is with TOLLWAY_URL.");
        }
        if error.is_timeout() {
            return Failure::new(Exit::Unavailable, format_args!("{} did not answer in time", self.base));
        }
        Failure::new(Exit::Unavailable, format_args!("the connection to {} broke ({reason})", self.base))
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.key.is_none() => {
                Some("Set TOLLWAY_API_KEY; `tollway dev` writes a profile with one.".to_owned())
            }
            StatusCode::UNAUTHORIZED => {
                Some(format!("TOLLWAY_API_KEY, or the profile's key, is not one of {}.", self.base))
            }
            _ => wait.map(|seconds| format!("Try again in {seconds} s.")),
        };
        Failure { exit: Exit::of_status(status.as_u16()), message: problem.sentence(status), hint }
    }
}

impl Problem {
    fn sentence(self, status: StatusCode) -> String {
        let mut text = match (self.detail, self.title) {
            (Some(detail), _) => detail,
            (None, Some(title)) => title,
            (None, None) => format!("the gateway answered {status}"),
        };
        if let Some(line) = self.line
            && !text.to_lowercase().contains(&format!("line {line}"))
        {
            text = format!("line {line}: {text}");
        }
        if let Some(known) = self.known.filter(|known| !known.is_empty()) {
            text = format!("{} There are: {}.", text.trim_end(), known.join(", "));
        }
        text.trim_end_matches('.').to_owned()
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A caller's text as one segment of a path.
pub fn segment(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> String {
        serde_json::from_str::<Problem>(json).unwrap().sentence(StatusCode::UNPROCESSABLE_ENTITY)
    }

    #[test]
    fn problems_become_sentences() {
        assert_eq!(said(r#"{"detail":"Line 3: url is \"/x\".","line":3}"#), "Line 3: url is \"/x\"");
        assert_eq!(said(r#"{"title":"Bad line","line":3}"#), "line 3: Bad line");
        assert_eq!(said(r#"{"detail":"There is no lane \"x\".","known":["prod","bulk"]}"#), {
            "There is no lane \"x\". There are: prod, bulk"
        });
        assert_eq!(said("{}"), "the gateway answered 422 Unprocessable Entity");
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("../keys?a=b"), "..%2Fkeys%3Fa%3Db");
        assert_eq!(segment("job_01abc"), "job_01abc");
    }
}
