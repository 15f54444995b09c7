//! Connections: one pool per deployment, so that a slow one takes none from another.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::ErrorClass;
use reqwest::{Client, Url};

use crate::error::{CallError, root_cause};

/// Below what middle boxes allow an idle connection, so that a dead one is rarely picked.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Over HTTP/2 a client has one connection, and servers commonly allow it 100 calls at once: more would queue there unseen.
const CALLS_PER_CLIENT: usize = 100;

/// The connection pools of this process. Cloning shares them; they outlive the targets that use them, so a new version
/// of the configuration finds its connections warm.
#[derive(Clone, Default)]
pub struct HttpClients {
    pools: Arc<Mutex<HashMap<Key, Arc<Pool>>>>,
}

/// What a pool is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'t> {
    pub deployment: &'t Arc<str>,
    pub base_url: &'t Url,
    pub connect_timeout: Duration,
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

    /// The pool of a deployment; looked up once, then kept in `kept`.
    pub(crate) fn of<'k>(&self, peer: Peer<'_>, kept: &'k OnceLock<Arc<Pool>>) -> Result<&'k Pool, CallError> {
        if let Some(pool) = kept.get() {
            return Ok(pool);
        }
        let key = Key {
            deployment: peer.deployment.clone(),
            origin: peer.base_url.origin().ascii_serialization(),
            connect_timeout: peer.connect_timeout,
        };
        let mut pools = locked(&self.pools);
        let pool = match pools.get(&key) {
            Some(pool) => pool.clone(),
            None => {
                let pool = Arc::new(Pool { first: Counted::new(build(peer)?), more: Mutex::default() });
                pools.insert(key, pool.clone());
                pool
            }
        };
        Ok(kept.get_or_init(|| pool))
    }
}

/// A deployment's clients. Most need only the first.
#[derive(Debug)]
pub(crate) struct Pool {
    first: Counted,
    more: Mutex<Vec<Counted>>,
}

/// A client and its calls under way.
#[derive(Debug, Clone)]
struct Counted {
    client: Client,
    calls: Arc<AtomicUsize>,
}

/// A call's use of a client; kept until the answer's last byte.
pub(crate) struct Lent {
    pub client: Client,
    calls: Arc<AtomicUsize>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub fn lend(&self, peer: Peer<'_>) -> Result<Lent, CallError> {
        // Over plain HTTP every call has a connection to itself.
        if peer.base_url.scheme() == "http" {
            return Ok(self.first.lend());
        }
        if let Some(lent) = self.first.lend_if_free() {
            return Ok(lent);
        }
        let mut more = locked(&self.more);
        if let Some(lent) = more.iter().find_map(Counted::lend_if_free) {
            return Ok(lent);
        }
        let new = Counted::new(build(peer)?);
        let lent = new.lend();
        more.push(new);
        Ok(lent)
    }
}

impl Counted {
    fn new(client: Client) -> Self {
        Self { client, calls: Arc::default() }
    }

    fn lend(&self) -> Lent {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Lent { client: self.client.clone(), calls: self.calls.clone() }
    }

    fn lend_if_free(&self) -> Option<Lent> {
        let one_more = |calls: usize| (calls < CALLS_PER_CLIENT).then_some(calls + 1);
        self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Lent { client: self.client.clone(), calls: self.calls.clone() })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn build(peer: Peer<'_>) -> Result<Client, CallError> {
    let mut builder = Client::builder()
        .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A call that fails is an attempt of its own in the ledger: nobody repeats it behind our back.
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(peer.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(15));
    if peer.base_url.scheme() == "http" {
        // Never used, so the system's certificates need be neither there nor read.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        let message = format!("no HTTP client for deployment {}: {}", peer.deployment, root_cause(&error));
        CallError::new(ErrorClass::Connect, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer<'t>(deployment: &'t Arc<str>, base_url: &'t Url) -> Peer<'t> {
        Peer { deployment, base_url, connect_timeout: Duration::from_secs(5) }
    }

    #[test]
    fn a_deployment_keeps_its_pool_when_it_is_declared_anew() {
        let http = HttpClients::new();
        let (d, e): (Arc<str>, Arc<str>) = ("d".into(), "e".into());
        let (v1, v2): (Url, Url) = ("http://x/v1".parse().unwrap(), "http://x/v2".parse().unwrap());
        let kept: [OnceLock<Arc<Pool>>; 3] = Default::default();
        let [one, again, other] = [(&d, &v1, &kept[0]), (&d, &v2, &kept[1]), (&e, &v1, &kept[2])]
            .map(|(deployment, url, kept)| http.of(peer(deployment, url), kept).unwrap());
        assert!(std::ptr::eq(one, again));
        assert!(!std::ptr::eq(one, other));
    }

    #[test]
    fn calls_over_tls_spread_before_a_connection_is_full() {
        let http = HttpClients::new();
        let (deployment, url): (Arc<str>, Url) = ("d".into(), "https://x".parse().unwrap());
        let (peer, kept) = (peer(&deployment, &url), OnceLock::new());
        let pool = http.of(peer, &kept).unwrap();
        let mut lent: Vec<Lent> = (0..250).map(|_| pool.lend(peer).unwrap()).collect();
        let in_use = || {
            let counts = |counted: &Counted| counted.calls.load(Ordering::Relaxed);
            [vec![counts(&pool.first)], locked(&pool.more).iter().map(counts).collect()].concat()
        };
        assert_eq!(in_use(), [100, 100, 50]);
        drop(lent.drain(..60));
        let next = pool.lend(peer).unwrap();
        assert_eq!(in_use(), [41, 100, 50]);
        drop((lent, next));
        assert_eq!(in_use(), [0, 0, 0]);
    }
}
