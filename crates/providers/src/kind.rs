//! What distinguishes one kind of provider from another, apart from its wire format.

use std::sync::Arc;

use domain::Endpoint;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::{Provider, credential::BadCredential, pool::HttpClients};

/// What a kind's folder offers.
pub(crate) struct Kind {
    /// Below `base_url`; `None`: the kind has no such endpoint.
    pub path: fn(Endpoint) -> Option<&'static str>,
    /// Of the query that lists all models at once.
    pub models_query: &'static [(&'static str, &'static str)],
    /// Headers of every call, the credential's among them.
    pub headers: fn(&mut HeaderMap, Option<&SecretString>) -> Result<(), BadCredential>,
    pub provider: fn(HttpClients) -> Arc<dyn Provider>,
}

/// Puts the credential, after `scheme`, into a header that is never logged.
pub(crate) fn put_secret(
    headers: &mut HeaderMap,
    name: HeaderName,
    scheme: &str,
    secret: &SecretString,
) -> Result<(), BadCredential> {
    let mut value = HeaderValue::from_str(&format!("{scheme}{}", secret.expose_secret()))
        .map_err(|_| BadCredential::NotAHeader("the secret".into()))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}
