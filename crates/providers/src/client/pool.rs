//! Connections: one pool per deployment, so that a slow one takes none from another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use domain::ErrorClass;

use crate::{error::CallError, target::Target};

/// Below what middle boxes allow an idle connection, so that a dead one is rarely picked.
const IDLE: Duration = Duration::from_secs(30);

/// The connection pools of this process. Cloning shares them; they outlive the targets that use them, so a new version
/// of the configuration finds its connections warm.
#[derive(Clone, Default)]
pub struct HttpClients {
    pools: Arc<Mutex<HashMap<Key, reqwest::Client>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    deployment: Arc<str>,
    origin: String,
    connect_timeout: Duration,
}

impl HttpClients {
    /// Also makes ring the process's default for TLS, unless the process has chosen already.
    pub fn new() -> Self {
        static RING: Once = Once::new();
        // It fails only when another default is installed, which serves as well.
        RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        Self::default()
    }

    /// `target`'s client; looked up once, then kept by the target.
    pub(crate) fn of<'t>(&self, target: &'t Target) -> Result<&'t reqwest::Client, CallError> {
        if let Some(client) = target.client().get() {
            return Ok(client);
        }
        let key = Key {
            deployment: target.name.clone(),
            origin: target.base_url.origin().ascii_serialization(),
            connect_timeout: target.connect_timeout,
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match pools.get(&key) {
            Some(client) => client.clone(),
            None => {
                let client = build(target)?;
                pools.insert(key, client.clone());
                client
            }
        };
        Ok(target.client().get_or_init(|| client))
    }
}

fn build(target: &Target) -> Result<reqwest::Client, CallError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A call that fails is an attempt of its own in the ledger: nobody repeats it behind our back.
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(target.connect_timeout)
        .pool_idle_timeout(IDLE)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(15));
    if target.base_url.scheme() == "http" {
        // Never used, so the system's certificates need be neither there nor read.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        let message = format!("no HTTP client for deployment {}: {}", target.name, super::send::root_cause(&error));
        CallError::new(ErrorClass::Connect, message)
    })
}
