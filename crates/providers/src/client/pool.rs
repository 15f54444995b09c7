//! Connections: one pool per deployment, so that a slow one takes none from another.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::ErrorClass;
use reqwest::Client;

use crate::{error::CallError, target::Target};

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

    /// `target`'s pool; looked up once, then kept by the target.
    pub(crate) fn of<'t>(&self, target: &'t Target) -> Result<&'t Pool, CallError> {
        if let Some(pool) = target.pool().get() {
            return Ok(pool);
        }
        let key = Key {
            deployment: target.name.clone(),
            origin: target.base_url.origin().ascii_serialization(),
            connect_timeout: target.connect_timeout,
        };
        let mut pools = locked(&self.pools);
        let pool = match pools.get(&key) {
            Some(pool) => pool.clone(),
            None => {
                let pool = Arc::new(Pool { first: Counted::new(build(target)?), more: Mutex::default() });
                pools.insert(key, pool.clone());
                pool
            }
        };
        Ok(target.pool().get_or_init(|| pool))
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
    pub fn lend(&self, target: &Target) -> Result<Lent, CallError> {
        // Over plain HTTP every call has a connection to itself.
        if target.base_url.scheme() == "http" {
            return Ok(self.first.lend());
        }
        if let Some(lent) = self.first.lend_if_free() {
            return Ok(lent);
        }
        let mut more = locked(&self.more);
        if let Some(lent) = more.iter().find_map(Counted::lend_if_free) {
            return Ok(lent);
        }
        let new = Counted::new(build(target)?);
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

fn build(target: &Target) -> Result<Client, CallError> {
    let mut builder = Client::builder()
        .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A call that fails is an attempt of its own in the ledger: nobody repeats it behind our back.
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(target.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;

    #[test]
    fn a_deployment_keeps_its_pool_when_it_is_declared_anew() {
        let http = HttpClients::new();
        let [one, again] = ["http://x/v1", "http://x/v2"].map(|url| Target::resolve("d", &deployment(url)).unwrap());
        assert!(std::ptr::eq(http.of(&one).unwrap(), http.of(&again).unwrap()));
        let other = Target::resolve("e", &deployment("http://x/v1")).unwrap();
        assert!(!std::ptr::eq(http.of(&one).unwrap(), http.of(&other).unwrap()));
    }

    #[test]
    fn calls_over_tls_spread_before_a_connection_is_full() {
        let http = HttpClients::new();
        let target = Target::resolve("d", &deployment("https://x")).unwrap();
        let pool = http.of(&target).unwrap();
        let mut lent: Vec<Lent> = (0..250).map(|_| pool.lend(&target).unwrap()).collect();
        let in_use = || {
            let counts = |counted: &Counted| counted.calls.load(Ordering::Relaxed);
            [vec![counts(&pool.first)], locked(&pool.more).iter().map(counts).collect()].concat()
        };
        assert_eq!(in_use(), [100, 100, 50]);
        drop(lent.drain(..60));
        let next = pool.lend(&target).unwrap();
        assert_eq!(in_use(), [41, 100, 50]);
        drop((lent, next));
        assert_eq!(in_use(), [0, 0, 0]);
    }
}
