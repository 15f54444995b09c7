//! One message to one receiver: signed where there is a key, through the egress filter, without redirects. Whoever keeps messages
//! until they arrive sends them through here.

use std::{error::Error, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Client, StatusCode, header, redirect};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use uuid::Uuid;

use super::egress::{BadUrl, Egress, check_url};

/// For one delivery, from the name's resolution to the answer's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the first failure, the second, …; when they are used up, the message is given up. Together about a day.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(4 * 3_600),
    Duration::from_secs(8 * 3_600),
    Duration::from_secs(11 * 3_600),
];

#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// The same in each try.
    pub id: Uuid,
    pub url: &'m str,
    pub payload: &'m str,
    /// What it is signed with, by the Standard Webhooks rules; `None`: its receiver checks no signatures.
    pub key: Option<&'m Webhook>,
}

#[derive(Debug)]
pub struct Failure {
    /// Without the URL: it may hold a token.
    pub reason: String,
    pub is_final: bool,
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
    if let Some(key) = message.key {
        let (id, timestamp) = (message.id.to_string(), now.timestamp());
        let signature = key
            .sign(&id, timestamp, message.payload.as_bytes())
            .map_err(|error| Failure { reason: error.to_string(), is_final: true })?;
        request = request
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature);
    }
    let answer = request.body(message.payload.to_owned()).send().await?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        // The receiver's way to say that it wants no more of them.
        StatusCode::GONE => Err(Failure { reason: "the receiver answered 410".into(), is_final: true }),
        status => Err(Failure { reason: format!("the receiver answered {}", status.as_u16()), is_final: false }),
    }
}

impl Failure {
    /// The receiver has nothing to do with it.
    pub fn of_ours(reason: &str) -> Self {
        Self { reason: reason.to_owned(), is_final: false }
    }
}

impl From<BadUrl> for Failure {
    fn from(bad: BadUrl) -> Self {
        Self { reason: bad.to_string(), is_final: true }
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
        Self { reason, is_final: false }
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
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
        .build();
    built.map_err(|error| format!("no HTTP client: {error}"))
}

/// How long to wait after the try of this number failed; `None` after the last.
pub fn pause(tries: i32, jitter: f64) -> Option<Duration> {
    let nth = usize::try_from(tries - 1).ok()?;
    PAUSES.get(nth).map(|pause| pause.mul_f64(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_tries_take_about_a_day() {
        let waits: Vec<Duration> = (1..).map_while(|tries| pause(tries, 1.0)).collect();
        assert_eq!(waits.len() + 1, 8);
        let day: Duration = waits.iter().sum();
        assert!((Duration::from_secs(23 * 3600)..Duration::from_secs(26 * 3600)).contains(&day));
    }
}
