//! The kinds of providers by their name in the configuration. This is the only place that tells them apart: everything else about a kind
//! stands in its folder.

use std::sync::Arc;

use domain::{Deployment, Endpoint, catalog::ProviderKind};

use crate::{
    Provider, anthropic,
    kind::Kind,
    openai,
    pool::HttpClients,
    target::{BadTarget, Target},
};

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

impl Target {
    /// Reads the credential from the environment or its file, and checks the rest.
    pub fn resolve(name: &str, deployment: &Deployment) -> Result<Self, BadTarget> {
        Self::of_kind(name, deployment, of(deployment.kind))
    }
}
