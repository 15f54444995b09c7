//! The kinds of providers by their name in the configuration. This is the only place that tells them apart: everything else about a kind
//! stands in its folder.

use std::sync::Arc;

use domain::{Endpoint, catalog::ProviderKind};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::{Provider, anthropic, client::HttpClients, credential::BadCredential, openai};

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

pub(crate) fn of(kind: ProviderKind) -> &'static Kind {
    match kind {
        ProviderKind::Openai => &openai::KIND,
        ProviderKind::Anthropic => &anthropic::KIND,
    }
}

/// The provider that speaks `kind`'s wire format. It keeps no state of its own: one serves all deployments of its kind.
pub fn provider(kind: ProviderKind, http: &HttpClients) -> Arc<dyn Provider> {
    (of(kind).provider)(http.clone())
}

/// Whether deployments of this kind have this endpoint.
pub fn serves(kind: ProviderKind, endpoint: Endpoint) -> bool {
    (of(kind).path)(endpoint).is_some()
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
