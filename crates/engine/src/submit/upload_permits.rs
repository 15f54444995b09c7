//! Upload permits. Each upload keeps a few chunks and a hash of every custom_id in memory, so a process takes a bounded
//! number at once. One key gets at most half of the permits and one team three quarters, so that no key keeps others
//! from submitting. When a new upload finds none free, the slowest upload whose client drips loses its permit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout_at};

use super::{
    Share, Submission, SubmitError, Submitter,
    timed::{Occupied, Timed},
};
use crate::settings::UploadRate;

/// How long an upload waits for a permit: a small upload returns its permit within milliseconds.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(3);
/// How often an upload that waits for a permit looks for one that drips.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct UploadPermits {
    all: usize,
    required: UploadRate,
    admission_timeout: Duration,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    table: Mutex<Table>,
    /// Told of each place that becomes free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    uploads: HashMap<u64, Arc<Occupied>>,
}

/// Free again when it is dropped.
#[derive(Debug)]
pub struct UploadPermit {
    id: u64,
    taken: Arc<Taken>,
    upload: Arc<Occupied>,
}

impl UploadPermits {
    pub fn new(all: usize, required: UploadRate) -> Self {
        Self { all, required, admission_timeout: ADMISSION_TIMEOUT, taken: Arc::default() }
    }

    /// A place for one upload of this key.
    pub(crate) async fn take(&self, who: Submitter<'_>) -> Result<UploadPermit, SubmitError> {
        let deadline = tokio::time::Instant::now() + self.admission_timeout;
        loop {
            let freed = self.taken.freed.notified();
            let full = match self.try_take(who, Instant::now()) {
                Ok(place) => return Ok(place),
                Err(full) => full,
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(full);
            }
            // Others may be slow enough by then, although nobody left.
            let _ = timeout_at(deadline.min(tokio::time::Instant::now() + POLL_INTERVAL), freed).await;
        }
    }

    fn try_take(&self, who: Submitter<'_>, now: Instant) -> Result<UploadPermit, SubmitError> {
        let mut table = self.taken.lock();
        let (of_key, of_team) = (self.all.div_ceil(2), (self.all * 3).div_ceil(4));
        let is_keys = |upload: &Occupied| upload.key_id == who.key_id && upload.team_id == who.team_id;
        let is_teams = |upload: &Occupied| upload.team_id == who.team_id;
        let full = if table.count(is_keys) >= of_key {
            table.displace(is_keys, now);
            SubmitError::ShareBusy { of: Share::Key, most: of_key }
        } else if table.count(is_teams) >= of_team {
            table.displace(is_teams, now);
            SubmitError::ShareBusy { of: Share::Team, most: of_team }
        } else if table.uploads.len() >= self.all {
            table.displace(|_| true, now);
            SubmitError::Busy { uploads: self.all }
        } else {
            let upload = Arc::new(Occupied::new(who, self.required, now));
            let id = table.next;
            table.next += 1;
            table.uploads.insert(id, Arc::clone(&upload));
            return Ok(UploadPermit { id, taken: Arc::clone(&self.taken), upload });
        };
        Err(full)
    }
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, fits: impl Fn(&Occupied) -> bool) -> usize {
        self.uploads.values().filter(|upload| fits(upload)).count()
    }

    /// Ends the slowest of the uploads that drip, unless one is about to go already.
    fn displace(&self, fits: impl Fn(&Occupied) -> bool, now: Instant) {
        let among = || self.uploads.values().filter(|upload| fits(upload));
        if among().any(|upload| upload.displaced.is_cancelled()) {
            return;
        }
        let dripping = among().filter_map(|upload| Some((upload.drips(now)?, upload)));
        if let Some((_, slowest)) = dripping.min_by_key(|(rate, _)| *rate) {
            slowest.displaced.cancel();
        }
    }
}

impl UploadPermit {
    /// The body, which from here on must come in as fast as is asked for.
    pub(crate) fn watch<R>(&self, body: R) -> Timed<R> {
        Timed::new(body, Arc::clone(&self.upload))
    }

    /// Says of an upload that broke off whether it was ended for its slowness.
    pub(crate) fn explain(&self, error: SubmitError) -> SubmitError {
        match (error, self.upload.ended()) {
            (SubmitError::Cut(_) | SubmitError::Gzip(_), Some(slow)) => slow.into(),
            (error, _) => error,
        }
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        self.taken.lock().uploads.remove(&self.id);
        self.taken.freed.notify_waiters();
    }
}

impl<R> Submission<R> {
    /// With a body that must come in as fast as its place asks for.
    pub(crate) fn watched_by(self, permit: &UploadPermit) -> Submission<Timed<R>> {
        let Self { params, idempotency_key, format, body } = self;
        Submission { params, idempotency_key, format, body: permit.watch(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::Slow;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const REQUIRED: UploadRate = UploadRate { bytes_per_s: 1 << 10, deadline: Duration::from_secs(3600) };

    fn key(team_id: i64, key_id: &str) -> Submitter<'_> {
        Submitter { team_id, key_id, lanes: &[] }
    }

    fn places(all: usize) -> UploadPermits {
        UploadPermits { admission_timeout: Duration::from_millis(20), ..UploadPermits::new(all, REQUIRED) }
    }

    /// An upload of this place whose client gave one byte and has nothing more since `ago`.
    fn drip(place: &UploadPermit, ago: Duration) {
        let now = Instant::now();
        place.upload.received(1, now);
        place.upload.waits(now.checked_sub(ago).unwrap());
    }

    #[tokio::test]
    async fn beyond_the_last_place_an_upload_waits_and_is_refused() {
        let places = places(1);
        let first = places.take(key(1, "a")).await.unwrap();
        assert!(matches!(
            places.take(key(2, "b")).await,
            Err(SubmitError::ShareBusy { .. } | SubmitError::Busy { .. })
        ));
        let second = places.take(key(2, "b"));
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_key_has_half_of_the_places_and_a_team_three_quarters() {
        let places = places(32);
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(places.take(key(1, "a")).await.unwrap());
        }
        let refused = places.take(key(1, "a")).await.unwrap_err();
        assert!(matches!(refused, SubmitError::ShareBusy { of: Share::Key, most: 16 }), "{refused}");
        for _ in 0..8 {
            held.push(places.take(key(1, "b")).await.unwrap());
        }
        let refused = places.take(key(1, "c")).await.unwrap_err();
        assert!(matches!(refused, SubmitError::ShareBusy { of: Share::Team, most: 24 }), "{refused}");
        for n in 0..8 {
            let name = n.to_string();
            held.push(places.take(key(2, &name)).await.unwrap());
        }
        assert!(matches!(places.take(key(3, "x")).await, Err(SubmitError::Busy { uploads: 32 })));
    }

    #[tokio::test]
    async fn the_slowest_dripping_upload_loses_its_place_to_another_team() {
        let places = places(4);
        let held = [
            places.take(key(1, "a")).await.unwrap(),
            places.take(key(1, "a")).await.unwrap(),
            places.take(key(2, "b")).await.unwrap(),
            places.take(key(2, "b")).await.unwrap(),
        ];
        // One that copies from the database, a fast one, a slow one, a slower one.
        let now = Instant::now();
        held[1].upload.received(10 << 20, now);
        held[1].upload.waits(now - Duration::from_secs(5));
        held[2].upload.received(1 << 10, now);
        held[2].upload.waits(now - Duration::from_secs(5));
        drip(&held[3], Duration::from_secs(5));
        assert!(places.take(key(3, "c")).await.is_err(), "it has not gone yet");
        let displaced = held.each_ref().map(|place| place.upload.displaced.is_cancelled());
        assert_eq!(displaced, [false, false, false, true]);
        let [.., slowest] = held;
        drop(slowest);
        assert!(places.take(key(3, "c")).await.is_ok());
    }

    #[tokio::test]
    async fn an_upload_that_has_just_begun_keeps_its_place() {
        let places = places(1);
        let held = places.take(key(1, "a")).await.unwrap();
        drip(&held, Duration::from_millis(500));
        assert!(places.take(key(2, "b")).await.is_err());
        assert!(!held.upload.displaced.is_cancelled());
    }

    #[tokio::test]
    async fn a_displaced_upload_ends_at_once_and_says_why() {
        let places = places(1);
        let held = places.take(key(1, "a")).await.unwrap();
        let (mut client, server) = duplex(64);
        let mut body = held.watch(server);
        client.write_all(b"x").await.unwrap();
        assert_eq!(body.read_u8().await.unwrap(), b'x');
        let reading = tokio::spawn(async move { body.read_u8().await });
        held.upload.displaced.cancel();
        let cut = reading.await.unwrap().unwrap_err();
        assert!(matches!(held.explain(SubmitError::Cut(cut)), SubmitError::Slow(Slow::Displaced { .. })));
    }

    #[tokio::test]
    async fn an_upload_ends_at_its_deadline_while_its_client_is_silent() {
        let required = UploadRate { deadline: Duration::from_millis(30), ..REQUIRED };
        let places = UploadPermits { required, ..places(1) };
        let held = places.take(key(1, "a")).await.unwrap();
        let (_client, server) = duplex(64);
        let cut = held.watch(server).read_u8().await.unwrap_err();
        assert!(matches!(held.explain(SubmitError::Cut(cut)), SubmitError::Slow(Slow::Deadline(_))));
    }
}
