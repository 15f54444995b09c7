//! Sends one message to one receiver: signed if there is a key, through the egress filter, without redirects. Both
//! outboxes send through here.

use std::{error::Error, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Client, header, redirect};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use uuid::Uuid;

use super::Reason;
use super::egress::{BadUrl, Egress, check_url};

/// For one delivery, from the name's resolution to the answer's head.
const RECEIVER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// The same in each try.
    pub id: Uuid,
    pub url: &'m str,
    pub payload: &'m str,
    /// What it is signed with, by the Standard Webhooks rules: with each of them, so that a receiver that knows one of two is content.
    /// None: its receiver checks no signatures.
    pub keys: &'m [Webhook],
}

#[derive(Debug)]
pub struct Failure {
    /// Without the URL: it may hold a token.
    pub reason: String,
    pub why: Reason,
}

/// Receivers refuse signatures that are not of about `now`.
pub async fn post(
    client: &Client,
    message: Message<'_>,
    private_allowed: bool,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let url = check_url(message.url, private_allowed)?;
    let mut request = client.post(url).header(header::CONTENT_TYPE, "application/json");
    if !message.keys.is_empty() {
        let (id, timestamp) = (message.id.to_string(), now.timestamp());
        let sign = |key: &Webhook| key.sign(&id, timestamp, message.payload.as_bytes());
        let signatures: Result<Vec<String>, _> = message.keys.iter().map(sign).collect();
        let signature =
            signatures.map_err(|error| Failure { reason: error.to_string(), why: Reason::Hopeless })?.join(" ");
        request = request
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature);
    }
    let answer = request.body(message.payload.to_owned()).send().await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("the receiver answered {}", status.as_u16());
    Err(Failure { reason, why: Reason::of_answer(status, answer.headers(), now) })
}

impl Failure {
    /// The receiver has nothing to do with it.
    pub fn of_ours(reason: &str) -> Self {
        Self { reason: reason.to_owned(), why: Reason::Passing }
    }
}

impl From<BadUrl> for Failure {
    fn from(bad: BadUrl) -> Self {
        Self { reason: bad.to_string(), why: Reason::Hopeless }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason = format!("{reason}: {inner}");
            cause = inner.source();
        }
        Self { reason, why: Reason::Passing }
    }
}

pub fn build_client(private_allowed: bool) -> Result<Client, String> {
    // Makes ring the process's default for TLS, if that was not done yet.
    let _ = providers::HttpClients::new();
    let built = Client::builder()
        .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Egress { private_allowed }))
        // A redirect or a proxy would lead past the filter.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(RECEIVER_TIMEOUT)
        .pool_max_idle_per_host(0)
        .build();
    built.map_err(|error| format!("no HTTP client: {error}"))
}
