//! Failed sign-ins: limited per address and per key id, and counted for the audit. Only a key that is refused anyway is ever
//! limited, so nobody behind a shared address is locked out by a neighbour. Memory is bounded whatever is invented.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::{Action, Object};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Change},
};

/// Failures in a row that are answered at once, and the pace at which more of them are.
const BURST: u32 = 20;
const FAILURE_INTERVAL: Duration = Duration::from_secs(3);
/// Addresses and key ids that are remembered.
const MAX_SOURCES: usize = 8_192;
/// Addresses that are counted by themselves between two lines of the audit, and those that get a line.
const MAX_COUNTED: usize = 256;
const MAX_LINES: usize = 20;
/// Key ids that a line names.
const MAX_NAMED: usize = 5;

type KeyId = [u8; 12];

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Malformed,
    /// An unknown id, a wrong secret, or a revoked key: nobody is told which.
    Unknown,
    Expired,
    /// The limit of failures was reached.
    Throttled,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    Key(KeyId),
}

#[derive(Debug, Default)]
pub struct SignIns(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Until when each source has used up what it may: a failure costs [`FAILURE_INTERVAL`] (generic cell rate algorithm).
    used_until: HashMap<Source, Instant>,
    counts: HashMap<Option<IpAddr>, Count>,
    /// Of the addresses for which there was no room.
    rest: Count,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Count {
    malformed: u64,
    unknown: u64,
    expired: u64,
    throttled: u64,
    key_ids: Vec<KeyId>,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
}

impl SignIns {
    /// Spends one failure of an address and of a key id. `Err`: how long until one of them has a failure left.
    pub fn spend(&self, from: Option<IpAddr>, key: Option<KeyId>, now: Instant) -> Result<(), Duration> {
        let mut inner = self.lock();
        let sources = [from.map(|address| Source::Address(network(address))), key.map(Source::Key)];
        let wait = sources.iter().flatten().filter_map(|source| inner.wait(source, now)).max();
        match wait {
            Some(wait) => Err(wait),
            None => {
                for source in sources.into_iter().flatten() {
                    inner.spend(source, now);
                }
                Ok(())
            }
        }
    }

    /// For the audit.
    pub fn count(&self, from: Option<IpAddr>, key: Option<KeyId>, reason: Reason, at: DateTime<Utc>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let from = from.map(network);
        let count = if inner.counts.len() < MAX_COUNTED || inner.counts.contains_key(&from) {
            inner.counts.entry(from).or_default()
        } else {
            &mut inner.rest
        };
        count.add(key, reason, at);
    }

    /// Writes what was counted since the last time: a line for each of the worst addresses and one for all others. What cannot be
    /// written is lost to the audit; the metric has counted it.
    pub async fn write(&self, conn: &mut PgConnection) -> store::Result<()> {
        let (counts, mut rest) = {
            let mut inner = self.lock();
            (std::mem::take(&mut inner.counts), std::mem::take(&mut inner.rest))
        };
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.total()));
        for (_, count) in counts.drain(MAX_LINES.min(counts.len())..) {
            rest.merge(count);
        }
        let lines = counts.into_iter().map(|(from, count)| (shown(from), count));
        let rest = Some(rest).filter(|rest| rest.total() > 0).map(|rest| ("*".to_owned(), rest));
        for (address, count) in lines.chain(rest) {
            tracing::warn!(address, failures = count.total(), "API keys were refused");
            let change = Change {
                object: Object::Address(address),
                key_id: None,
                action: Action::SignInFailed,
                details: count.details(),
            };
            audit::record_change(conn, change).await?;
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.counts.is_empty() && inner.rest.total() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn wait(&self, source: &Source, now: Instant) -> Option<Duration> {
        let used_until = self.used_until.get(source)?;
        let next = *used_until + FAILURE_INTERVAL;
        next.checked_duration_since(now + FAILURE_INTERVAL * BURST).filter(|wait| !wait.is_zero())
    }

    fn spend(&mut self, source: Source, now: Instant) {
        if self.used_until.len() >= MAX_SOURCES && !self.used_until.contains_key(&source) {
            self.used_until.retain(|_, used_until| *used_until > now);
            // All sources are failing: the one with the fewest failures is dropped, because it is farthest from its
            // limit.
            if self.used_until.len() >= MAX_SOURCES
                && let Some(least) = self.used_until.iter().min_by_key(|(_, until)| **until).map(|(source, _)| *source)
            {
                self.used_until.remove(&least);
            }
        }
        let used_until = self.used_until.entry(source).or_insert(now);
        *used_until = (*used_until).max(now) + FAILURE_INTERVAL;
    }
}

impl Count {
    fn add(&mut self, key: Option<KeyId>, reason: Reason, at: DateTime<Utc>) {
        match reason {
            Reason::Malformed => self.malformed += 1,
            Reason::Unknown => self.unknown += 1,
            Reason::Expired => self.expired += 1,
            Reason::Throttled => self.throttled += 1,
        }
        if let Some(key) = key.filter(|key| self.key_ids.len() < MAX_NAMED && !self.key_ids.contains(key)) {
            self.key_ids.push(key);
        }
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
    }

    fn merge(&mut self, other: Self) {
        self.malformed += other.malformed;
        self.unknown += other.unknown;
        self.expired += other.expired;
        self.throttled += other.throttled;
        self.first_at = self.first_at.into_iter().chain(other.first_at).min();
        self.last_at = self.last_at.max(other.last_at);
        let room = MAX_NAMED.saturating_sub(self.key_ids.len());
        self.key_ids.extend(other.key_ids.into_iter().take(room));
    }

    fn total(&self) -> u64 {
        self.malformed + self.unknown + self.expired + self.throttled
    }

    fn details(&self) -> serde_json::Value {
        // A key's id is ASCII: its checksum fitted.
        let key_ids: Vec<_> = self.key_ids.iter().map(|id| String::from_utf8_lossy(id)).collect();
        json!({
            "failures": self.total(), "malformed": self.malformed, "unknown": self.unknown, "expired": self.expired,
            "throttled": self.throttled, "key_ids": key_ids, "first_at": self.first_at, "last_at": self.last_at,
        })
    }
}

/// What one caller can choose freely counts as one address: of IPv6, a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

fn shown(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V6(v6)) => format!("{v6}/64"),
        Some(v4) => v4.to_string(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = *b"aaaaaaaaaaaa";

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// How many of `count` failures at one moment are answered.
    fn answered(sign_ins: &SignIns, from: Option<IpAddr>, key: Option<KeyId>, count: usize, now: Instant) -> usize {
        (0..count).filter(|_| sign_ins.spend(from, key, now).is_ok()).count()
    }

    #[test]
    fn an_address_that_fails_too_often_is_told_how_long_to_wait() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        assert_eq!(answered(&sign_ins, ip("192.0.2.1"), None, 100, now), BURST as usize);
        assert_eq!(sign_ins.spend(ip("192.0.2.1"), None, now), Err(FAILURE_INTERVAL));
        assert_eq!(sign_ins.spend(ip("192.0.2.2"), None, now), Ok(()), "another address is not concerned");
        assert_eq!(sign_ins.spend(ip("192.0.2.1"), None, now + FAILURE_INTERVAL), Ok(()));
        assert_eq!(
            answered(&sign_ins, ip("192.0.2.1"), None, 100, now + FAILURE_INTERVAL * (BURST + 1)),
            BURST as usize
        );
    }

    #[test]
    fn a_key_id_is_limited_over_all_addresses() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        let from = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        assert_eq!((0..100).filter(|n| sign_ins.spend(from(*n), Some(KEY), now).is_ok()).count(), BURST as usize);
        assert!(sign_ins.spend(from(200), Some(*b"bbbbbbbbbbbb"), now).is_ok());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        let one = |n: u16| ip(&format!("2001:db8::{n:x}"));
        assert_eq!((0..100).filter(|n| sign_ins.spend(one(*n), None, now).is_ok()).count(), BURST as usize);
        assert!(sign_ins.spend(ip("2001:db8:0:1::1"), None, now).is_ok());
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_is_remembered() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        answered(&sign_ins, ip("192.0.2.1"), None, 100, now);
        for n in 0..MAX_SOURCES as u32 * 2 {
            let from = Some(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
            let _ = sign_ins.spend(from, None, now);
            sign_ins.count(from, Some(KEY), Reason::Unknown, DateTime::UNIX_EPOCH);
        }
        let inner = sign_ins.lock();
        assert_eq!((inner.used_until.len(), inner.counts.len()), (MAX_SOURCES, MAX_COUNTED));
        assert_eq!(inner.rest.unknown, (MAX_SOURCES * 2 - MAX_COUNTED) as u64);
        drop(inner);
        assert!(sign_ins.spend(ip("192.0.2.1"), None, now).is_err());
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_audit_has_a_line_for_each_of_the_worst_addresses(pool: store::PgPool) -> store::Result<()> {
        let sign_ins = SignIns::default();
        let mut conn = pool.acquire().await?;
        sign_ins.write(&mut conn).await?;
        for n in 0..30u8 {
            let from = Some(IpAddr::from([192, 0, 2, n]));
            for _ in 0..=n {
                sign_ins.count(from, Some(KEY), Reason::Unknown, DateTime::UNIX_EPOCH);
            }
        }
        sign_ins.count(ip("192.0.2.29"), None, Reason::Throttled, DateTime::UNIX_EPOCH);
        sign_ins.write(&mut conn).await?;
        assert!(sign_ins.is_empty());
        sign_ins.write(&mut conn).await?;
        let lines = audit::list(&mut conn, &audit::ListQuery { limit: 100, ..audit::ListQuery::default() }).await?;
        assert_eq!(lines.len(), MAX_LINES + 1);
        let of = |object: &str| lines.iter().find(|(_, line)| line.object == object).map(|(_, line)| &line.details);
        let worst = of("address:192.0.2.29").expect("it failed most often");
        assert_eq!((&worst["failures"], &worst["throttled"]), (&json!(31), &json!(1)));
        assert_eq!(worst["key_ids"], json!(["aaaaaaaaaaaa"]));
        assert_eq!(of("address:*").expect("the others are summed")["failures"], json!((1..=10).sum::<u32>()));
        Ok(())
    }
}
