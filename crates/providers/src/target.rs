//! A deployment, ready to be called: everything that one call would otherwise compute again.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{Deployment, Endpoint, ErrorClass};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use secrecy::SecretString;

use crate::{
    credential::{self, BadCredential},
    error::CallError,
    kind::Kind,
    pool::{HttpClients, Lent, Peer, Pool},
};

/// One deployment's connection settings, its credential resolved. Built once per deployment and kept: it remembers the
/// connection pool and what the deployment turned out not to support. A clone shares both.
#[derive(Debug, Clone)]
pub struct Target {
    /// The deployment's name.
    pub name: Arc<str>,
    pub base_url: Url,
    /// The provider's name for the model.
    pub model: Arc<str>,
    pub credential: Option<SecretString>,
    /// Name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The longest silence, counted from when the request went out or from the last bytes of the answer; of its head,
    /// until all of it is in.
    pub read_timeout: Duration,
    /// The whole call.
    pub total_timeout: Duration,
    /// The longest event of a stream and the largest answer that are taken, in bytes, unpacked.
    pub max_event: usize,
    pub max_answer: usize,
    /// The most tokens the model writes in one answer, where the operator says so.
    pub max_output_tokens: Option<u64>,
    prepared: Arc<Prepared>,
}

/// What every call needs and none should compute.
#[derive(Debug)]
struct Prepared {
    /// The kind's name, for errors.
    kind: &'static str,
    /// `None`: the kind has no such endpoint.
    chat_url: Option<Url>,
    embeddings_url: Option<Url>,
    models_url: Url,
    headers: HeaderMap,
    model_json: String,
    pool: OnceLock<Arc<Pool>>,
    additions: [Addition; 2],
    /// Floats in an embedding; 0: not known.
    width: AtomicU32,
}

/// Why a deployment cannot be called. Safe to show and to log.
#[derive(Debug, thiserror::Error)]
#[error("deployment {deployment:?}: {fault}")]
pub struct BadTarget {
    pub deployment: String,
    #[source]
    pub fault: TargetFault,
}

#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    #[error("base_url is not a URL: {0}")]
    NotAUrl(String),
    #[error("base_url must begin with http:// or https://")]
    Scheme,
    #[error("base_url must not carry a user or password; use credential = \"env:NAME\"")]
    UserInUrl,
    #[error("model is empty")]
    NoModel,
    #[error("{0} is 0; a time-out of at least 1 ms is needed")]
    NoTime(&'static str),
    #[error("max_output_tokens is 0; leave it out where the maximum is not known")]
    NoOutput,
    #[error("{field} is {given}; 1 to {LARGEST_MB} is allowed")]
    Size { field: &'static str, given: u64 },
    #[error(transparent)]
    Credential(#[from] BadCredential),
}

/// What Tollway adds to a request on its own account. A deployment that refuses one is not asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    /// `encoding_format: "base64"`: a third of the bytes, and exact.
    Base64 = 0,
    /// `stream_options.include_usage`: some providers forbid it and report usage all the same.
    StreamUsage = 1,
}

/// What is known of how a deployment takes an [`Extra`].
#[derive(Debug, Default)]
struct Addition {
    taken: AtomicBool,
    refused: AtomicBool,
    suspicions: AtomicU8,
}

impl Target {
    /// Reads the credential from the environment or its file, and checks the rest. `kind`: the deployment's.
    pub(crate) fn of_kind(name: &str, deployment: &Deployment, kind: &Kind) -> Result<Self, BadTarget> {
        build(name, deployment, kind).map_err(|fault| BadTarget { deployment: name.to_owned(), fault })
    }

    /// Where calls of this endpoint go; an error when the deployment's kind does not have it.
    pub(crate) fn url(&self, endpoint: Endpoint) -> Result<&Url, CallError> {
        let url = match endpoint {
            Endpoint::ChatCompletions => &self.prepared.chat_url,
            Endpoint::Embeddings => &self.prepared.embeddings_url,
        };
        url.as_ref().ok_or_else(|| {
            let (name, kind, path) = (&self.name, self.prepared.kind, endpoint.path());
            let message =
                format!("deployment {name} is of kind {kind}, which does not serve /v1{path}; the call was not sent");
            CallError::new(ErrorClass::InvalidRequest, message)
        })
    }

    pub(crate) fn models_url(&self) -> Url {
        self.prepared.models_url.clone()
    }

    /// Content type, credential, and what else the kind always sends.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.prepared.headers
    }

    /// The model as JSON text, quotes included.
    pub(crate) fn model_json(&self) -> &str {
        &self.prepared.model_json
    }

    /// When a connection should have taken the request, at the latest: a connector that is done in time but forgets it is waited for no
    /// longer than a provider that is silent.
    pub(crate) fn sent_within(&self) -> Duration {
        self.connect_timeout + self.read_timeout
    }

    /// A client of the deployment's pool, until the call's end.
    pub(crate) fn lend(&self, http: &HttpClients) -> Result<Lent, CallError> {
        let peer = Peer { deployment: &self.name, base_url: &self.base_url, connect_timeout: self.connect_timeout };
        http.of(peer, &self.prepared.pool)?.lend(peer)
    }

    pub(crate) fn takes(&self, extra: Extra) -> bool {
        !self.addition(extra).refused.load(Ordering::Relaxed)
    }

    /// It will not have `extra`, and is not asked with it again.
    pub(crate) fn refuses(&self, extra: Extra) {
        self.addition(extra).refused.store(true, Ordering::Relaxed);
    }

    /// It answered a call with `extra`: later failures are not because of it.
    pub(crate) fn took(&self, extra: Extra) {
        self.addition(extra).taken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_known_to_take(&self, extra: Extra) -> bool {
        self.addition(extra).taken.load(Ordering::Relaxed)
    }

    /// A call failed with `extra` and succeeded without, once more.
    pub(crate) fn suspect(&self, extra: Extra) -> u8 {
        self.addition(extra).suspicions.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn addition(&self, extra: Extra) -> &Addition {
        &self.prepared.additions[extra as usize]
    }

    /// How many floats its embeddings have when nobody says otherwise, as far as is known.
    pub(crate) fn width(&self) -> Option<u32> {
        Some(self.prepared.width.load(Ordering::Relaxed)).filter(|width| *width > 0)
    }

    pub(crate) fn has_width(&self, width: u32) {
        self.prepared.width.store(width, Ordering::Relaxed);
    }
}

fn build(name: &str, deployment: &Deployment, kind: &Kind) -> Result<Target, TargetFault> {
    let base_url = Url::parse(&deployment.base_url).map_err(|e| TargetFault::NotAUrl(e.to_string()))?;
    if !matches!(base_url.scheme(), "http" | "https") {
        return Err(TargetFault::Scheme);
    }
    if !base_url.username().is_empty() || base_url.password().is_some() {
        return Err(TargetFault::UserInUrl);
    }
    if deployment.model.is_empty() {
        return Err(TargetFault::NoModel);
    }
    if deployment.max_output_tokens == Some(0) {
        return Err(TargetFault::NoOutput);
    }
    let credential = deployment.credential.as_deref().map(credential::read).transpose()?;
    let url = |endpoint| (kind.path)(endpoint).map(|path| below(&base_url, path)).transpose();
    let prepared = Prepared {
        kind: deployment.kind.as_str(),
        chat_url: url(Endpoint::ChatCompletions)?,
        embeddings_url: url(Endpoint::Embeddings)?,
        models_url: models_url(&base_url, kind)?,
        headers: headers(kind, credential.as_ref())?,
        model_json: serde_json::Value::from(deployment.model.as_str()).to_string(),
        pool: OnceLock::new(),
        additions: Default::default(),
        width: AtomicU32::new(0),
    };
    Ok(Target {
        name: name.into(),
        base_url,
        model: deployment.model.as_str().into(),
        credential,
        connect_timeout: time("connect_timeout_ms", deployment.connect_timeout_ms)?,
        read_timeout: time("read_timeout_ms", deployment.read_timeout_ms)?,
        total_timeout: time("total_timeout_ms", deployment.total_timeout_ms)?,
        max_event: size("max_event_mb", deployment.max_event_mb)?,
        max_answer: size("max_answer_mb", deployment.max_answer_mb)?,
        max_output_tokens: deployment.max_output_tokens,
        prepared: Arc::new(prepared),
    })
}

/// `base_url` with the endpoint's path after its own; a query, such as Azure's `api-version`, stays.
fn below(base_url: &Url, path: &str) -> Result<Url, TargetFault> {
    let mut url = base_url.clone();
    url.path_segments_mut()
        .map_err(|()| TargetFault::NotAUrl("it has no path".into()))?
        .pop_if_empty()
        .extend(path.split('/').skip(1));
    Ok(url)
}

fn models_url(base_url: &Url, kind: &Kind) -> Result<Url, TargetFault> {
    let mut url = below(base_url, "/models")?;
    if !kind.models_query.is_empty() {
        url.query_pairs_mut().extend_pairs(kind.models_query);
    }
    Ok(url)
}

fn headers(kind: &Kind, credential: Option<&SecretString>) -> Result<HeaderMap, TargetFault> {
    // Room for what each call adds, so that a clone does not grow.
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (kind.headers)(&mut headers, credential)?;
    Ok(headers)
}

fn time(field: &'static str, ms: u64) -> Result<Duration, TargetFault> {
    // A year is as good as for ever, and no sum of times can overflow.
    const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;
    if ms == 0 {
        return Err(TargetFault::NoTime(field));
    }
    Ok(Duration::from_millis(ms.min(YEAR_MS)))
}

/// An answer is held in memory whole, for each call that is under way.
const LARGEST_MB: u64 = 1_024;

fn size(field: &'static str, mb: u64) -> Result<usize, TargetFault> {
    if !(1..=LARGEST_MB).contains(&mb) {
        return Err(TargetFault::Size { field, given: mb });
    }
    Ok((mb as usize) << 20)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn deployment(base_url: &str) -> Deployment {
        serde_json::from_value(serde_json::json!({"kind": "openai", "base_url": base_url, "model": "m"})).unwrap()
    }

    fn url_of(base_url: &str) -> String {
        Target::resolve("d", &deployment(base_url)).unwrap().url(Endpoint::ChatCompletions).unwrap().to_string()
    }

    #[test]
    fn the_endpoint_follows_the_base_url() {
        assert_eq!(url_of("https://api.openai.com/v1"), "https://api.openai.com/v1/chat/completions");
        assert_eq!(url_of("http://127.0.0.1:9/"), "http://127.0.0.1:9/chat/completions");
        assert_eq!(url_of("https://x/openai/v1/?api-version=2"), "https://x/openai/v1/chat/completions?api-version=2");
    }

    #[test]
    fn what_cannot_be_called_is_refused_with_the_reason() {
        let refused = |d: &Deployment| Target::resolve("d", d).map(|_| ()).unwrap_err().to_string();
        assert!(refused(&deployment("api.openai.com")).contains("not a URL"));
        assert!(refused(&deployment("ftp://x/")).contains("http://"));
        let with_user = refused(&deployment("https://me:sk-secret@x/v1"));
        assert!(with_user.contains("user") && !with_user.contains("sk-secret"));
        assert!(refused(&Deployment { read_timeout_ms: 0, ..deployment("http://x") }).contains("read_timeout_ms"));
        assert!(refused(&Deployment { max_event_mb: 0, ..deployment("http://x") }).contains("max_event_mb is 0"));
        assert!(refused(&Deployment { max_answer_mb: 9_999, ..deployment("http://x") }).contains("1 to 1024"));
        assert!(refused(&Deployment { model: String::new(), ..deployment("http://x") }).contains("model"));
        assert!(
            refused(&Deployment { max_output_tokens: Some(0), ..deployment("http://x") }).contains("max_output_tokens")
        );
        let pasted = Deployment { credential: Some("sk-secret".into()), ..deployment("http://x") };
        assert!(!refused(&pasted).contains("sk-secret"));
    }

    #[test]
    fn debug_output_holds_no_credential() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-secret").unwrap();
        let credential = Some(format!("file:{}", file.path().display()));
        let target = Target::resolve("d", &Deployment { credential, ..deployment("http://x") }).unwrap();
        assert_eq!(target.headers()["authorization"], "Bearer sk-secret");
        assert!(!format!("{target:?}").contains("sk-secret"));
    }
}
