//! A copy of the key table in memory, no older than a second. Authentication reads it; one task keeps it fresh. An unknown
//! key makes a request wait for the next look at the table: all such requests share it, and looks keep a distance, so
//! that a flood of invented keys costs the database nothing more than that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use store::{PgPool, key::KeyChange};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use super::{AuthError, SignIns, caller::Caller, key::ParsedKey};
use crate::Engine;

/// Between two looks of the background task: well below the second in which a revocation must hold everywhere.
const REFRESH_INTERVAL: Duration = Duration::from_millis(300);
/// Between two looks that unknown keys ask for.
const MIN_CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);
/// A look that takes longer than this has failed: its connection is dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long known keys work without the database; after that a revocation might be missed for too long.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// Between two times that failed sign-ins are written to the audit.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);
/// `changed_at` is taken before its transaction commits, and a session may not idle in one for longer than a minute.
const OVERLAP: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

#[derive(Default)]
pub struct KeyCache {
    table: RwLock<Table>,
    /// Keys that were refused.
    pub sign_ins: SignIns,
    /// When the last refresh began. The lock keeps refreshes from overlapping.
    look: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Table {
    keys: HashMap<[u8; 12], Entry>,
    disabled_teams: HashSet<i64>,
    /// The newest change that was seen.
    seen_to: Option<DateTime<Utc>>,
    /// When the last look that succeeded began.
    fresh_at: Option<Instant>,
}

#[derive(PartialEq)]
struct Entry {
    mac: [u8; 32],
    caller: Arc<Caller>,
    expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCache").field("keys", &self.read().keys.len()).finish_non_exhaustive()
    }
}

impl KeyCache {
    pub fn new() -> Self {
        Self::default()
    }

    /// The caller whose key has this id and this MAC, at `now`, which is `time` by the database. `None`: the copy has no such key;
    /// the table may. Whether the id is known makes no difference, in the answer or in the work.
    pub fn find(
        &self,
        key: &ParsedKey<'_>,
        mac: &[u8; 32],
        now: Instant,
        time: DateTime<Utc>,
    ) -> Result<Option<Arc<Caller>>, AuthError> {
        let table = self.read();
        if table.fresh_at.is_some_and(|at| now.saturating_duration_since(at) > STALE_AFTER) {
            return Err(AuthError::Unavailable);
        }
        let entry = table.keys.get(&key.id());
        let is_right = entry.map_or(&[0; 32], |entry| &entry.mac).ct_eq(mac);
        let Some(entry) = entry.filter(|_| is_right.into()) else { return Ok(None) };
        if let Some(expired) = entry.expires_at.filter(|at| *at <= time) {
            return Err(AuthError::Expired(expired));
        }
        if table.disabled_teams.contains(&entry.caller.team_id) {
            return Err(AuthError::TeamDisabled(Arc::clone(&entry.caller.team)));
        }
        Ok(Some(Arc::clone(&entry.caller)))
    }

    /// The caller of a key that was let in before, as it is now; `None` when it may do nothing any more. Without the database the last
    /// that was known holds: what is under way is not ended on a suspicion.
    pub fn current(&self, key_id: &str) -> Option<Arc<Caller>> {
        let table = self.read();
        let entry = table.keys.get(<&[u8; 12]>::try_from(key_id.as_bytes()).ok()?)?;
        (!table.disabled_teams.contains(&entry.caller.team_id)).then(|| Arc::clone(&entry.caller))
    }

    /// Looks at the table for what changed. The first look reads all keys that are not revoked.
    pub async fn refresh(&self, pool: &PgPool) -> store::Result<()> {
        let mut look = self.look.lock().await;
        self.look_now(&mut look, pool).await
    }

    /// Returns when a look has succeeded that began no earlier than `asked`.
    pub async fn catch_up(&self, pool: &PgPool, asked: Instant) -> Result<(), AuthError> {
        let mut look = self.look.lock().await;
        if self.read().fresh_at.is_some_and(|at| at >= asked) {
            return Ok(());
        }
        match *look {
            // That look began after we asked and failed; asking again would only queue us all up behind a dead database.
            Some(last) if last >= asked => return Err(AuthError::Unavailable),
            Some(last) => tokio::time::sleep_until((last + MIN_CATCH_UP_INTERVAL).into()).await,
            None => {}
        }
        self.look_now(&mut look, pool).await.map_err(|_| AuthError::Unavailable)
    }

    async fn look_now(&self, look: &mut Option<Instant>, pool: &PgPool) -> store::Result<()> {
        let began = Instant::now();
        *look = Some(began);
        let since = self.read().seen_to.map(|at| at - OVERLAP);
        let reading = async {
            let mut conn = pool.acquire().await?;
            let changes = store::key::changed_since(&mut conn, since).await?;
            let disabled = store::team::disabled_ids(&mut conn).await?;
            Ok::<_, store::Error>((changes, disabled))
        };
        let (changes, disabled) =
            tokio::time::timeout(LOOKUP_TIMEOUT, reading).await.map_err(|_| store::Error::PoolTimedOut)??;
        self.write().take(&changes, disabled, began);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, changes: &[KeyChange], disabled: Vec<i64>, began: Instant) {
        for change in changes {
            let Ok(id) = <[u8; 12]>::try_from(change.key_id.as_bytes()) else { continue };
            let entry = || {
                let mac = change.mac.as_slice().try_into().ok()?;
                Some(Entry { mac, caller: Arc::new(Caller::of_row(change)?), expires_at: change.expires_at })
            };
            match entry().filter(|_| !change.is_revoked) {
                // Rows in the overlap are read again and again: keep what callers already share.
                Some(new) if self.keys.get(&id) == Some(&new) => {}
                Some(new) => drop(self.keys.insert(id, new)),
                None => drop(self.keys.remove(&id)),
            }
        }
        self.disabled_teams = disabled.into_iter().collect();
        self.seen_to = self.seen_to.max(changes.iter().map(|change| change.changed_at).max());
        self.fresh_at = Some(began);
    }
}

/// Keeps the copy fresh for as long as the process lives; the binary spawns it.
pub async fn follow_keys(engine: Arc<Engine>) {
    let mut failing = false;
    let mut audited = Instant::now();
    loop {
        if audited.elapsed() >= AUDIT_INTERVAL {
            audited = Instant::now();
            audit_sign_ins(&engine).await;
        }
        match engine.keys.refresh(&engine.pools.work).await {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("API keys are followed again");
            }
            Ok(()) => {}
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "API keys cannot be followed; known ones work for {STALE_AFTER:?}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(REFRESH_INTERVAL).await;
    }
}

async fn audit_sign_ins(engine: &Engine) {
    if engine.keys.sign_ins.is_empty() {
        return;
    }
    let written = async { engine.keys.sign_ins.write(&mut *engine.pools.work.acquire().await?).await };
    match tokio::time::timeout(LOOKUP_TIMEOUT, written).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "Failed sign-ins could not be written to the audit"),
        Err(_) => tracing::warn!("Failed sign-ins could not be written to the audit in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::key::{Minted, mint};

    const PEPPER: [u8; 32] = [7; 32];

    fn row(minted: &Minted, team_id: i64, is_revoked: bool) -> KeyChange {
        KeyChange {
            key_id: minted.key_id.clone(),
            team_id,
            team: format!("team{team_id}"),
            role: "submit".into(),
            lanes: vec!["standard".into(), "bulk".into()],
            mac: minted.mac.to_vec(),
            slots: None,
            rpm: None,
            tpm: None,
            expires_at: None,
            changed_at: DateTime::UNIX_EPOCH,
            is_revoked,
        }
    }

    /// What the cache says of `minted` after it was told `rows` at `told`, at `now`.
    fn ask(cache: &KeyCache, minted: &Minted, now: Instant) -> Result<Option<Arc<Caller>>, AuthError> {
        let key = ParsedKey::parse(minted.key.expose()).unwrap();
        cache.find(&key, &key.mac(&PEPPER), now, DateTime::UNIX_EPOCH)
    }

    fn told(rows: &[KeyChange], disabled: Vec<i64>, at: Instant) -> KeyCache {
        let cache = KeyCache::new();
        cache.write().take(rows, disabled, at);
        cache
    }

    #[test]
    fn a_known_key_is_its_caller_and_stays_shared() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let cache = told(&[row(&minted, 1, false)], vec![], now);
        let first = ask(&cache, &minted, now).unwrap().unwrap();
        assert_eq!((first.team_id, &*first.team, first.lanes[0].as_str()), (1, "team1", "standard"));
        cache.write().take(&[row(&minted, 1, false)], vec![], now);
        assert!(Arc::ptr_eq(&first, &ask(&cache, &minted, now).unwrap().unwrap()));
    }

    #[test]
    fn a_revoked_key_is_gone_and_a_disabled_team_is_named() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let cache = told(&[row(&minted, 1, false)], vec![1], now);
        assert_eq!(ask(&cache, &minted, now), Err(AuthError::TeamDisabled("team1".into())));
        cache.write().take(&[row(&minted, 1, true)], vec![], now);
        assert_eq!(ask(&cache, &minted, now), Ok(None));
    }

    /// What an open stream asks again and again.
    #[test]
    fn a_key_that_was_let_in_is_known_until_it_is_revoked_or_changed() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let cache = told(&[row(&minted, 1, false)], vec![], now);
        assert_eq!(cache.current(&minted.key_id).unwrap().team_id, 1);
        let changed = KeyChange { role: "read".into(), ..row(&minted, 1, false) };
        cache.write().take(&[changed], vec![], now);
        assert_eq!(cache.current(&minted.key_id).map(|caller| caller.role), "read".parse().ok());
        cache.write().take(&[], vec![1], now);
        assert_eq!(cache.current(&minted.key_id), None, "its team is disabled");
        cache.write().take(&[row(&minted, 1, true)], vec![], now);
        assert_eq!(cache.current(&minted.key_id), None);
        assert_eq!(cache.current("no key"), None);
    }

    #[test]
    fn a_known_id_with_another_secret_is_as_unknown_as_an_unknown_id() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let mut forged = row(&minted, 1, false);
        forged.mac = vec![0; 32];
        assert_eq!(ask(&told(&[forged], vec![], now), &minted, now), Ok(None));
        assert_eq!(ask(&told(&[], vec![], now), &minted, now), Ok(None));
    }

    #[test]
    fn a_key_expires_at_its_moment_and_says_so() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let expires_at = Some(DateTime::UNIX_EPOCH);
        let cache = told(&[KeyChange { expires_at, ..row(&minted, 1, false) }], vec![], now);
        assert_eq!(ask(&cache, &minted, now), Err(AuthError::Expired(DateTime::UNIX_EPOCH)));
        let key = ParsedKey::parse(minted.key.expose()).unwrap();
        let before = DateTime::UNIX_EPOCH - chrono::TimeDelta::milliseconds(1);
        assert!(cache.find(&key, &key.mac(&PEPPER), now, before).unwrap().is_some());
        assert_eq!(cache.find(&key, &[0; 32], now, DateTime::UNIX_EPOCH), Ok(None), "only its owner is told");
    }

    #[test]
    fn without_the_database_known_keys_work_for_a_minute() {
        let (minted, now) = (mint(&PEPPER), Instant::now());
        let cache = told(&[row(&minted, 1, false)], vec![], now);
        assert!(ask(&cache, &minted, now + STALE_AFTER).is_ok());
        assert_eq!(ask(&cache, &minted, now + STALE_AFTER + Duration::from_millis(1)), Err(AuthError::Unavailable));
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_shares_one_failing_look() {
        let cache = KeyCache::new();
        let nowhere = store::connect("postgres://nobody@127.0.0.1:1/none", Default::default()).unwrap().work;
        let asked = Instant::now();
        let answers = futures::future::join_all((0..100).map(|_| cache.catch_up(&nowhere, asked))).await;
        assert!(answers.iter().all(|answer| *answer == Err(AuthError::Unavailable)));
        assert!(asked.elapsed() < LOOKUP_TIMEOUT * 2, "one look, not a hundred");
    }

    mod with_database {
        use store::{key, team};

        use super::*;

        async fn make(pool: &PgPool, team: &str) -> store::Result<Minted> {
            let mut conn = pool.acquire().await?;
            let team = match team::get_by_name(&mut conn, team).await? {
                Some(team) => team,
                None => team::create(&mut conn, team, 1).await?.expect("nobody else is here"),
            };
            let minted = mint(&PEPPER);
            let new = key::NewKey {
                key_id: &minted.key_id,
                team_id: team.team_id,
                name: "test",
                role: "submit",
                lanes: &["bulk".to_owned()],
                mac: &minted.mac,
                slots: None,
                rpm: None,
                tpm: None,
                expires_at: None,
            };
            key::create(&mut conn, &new).await?;
            Ok(minted)
        }

        #[sqlx::test(migrations = "../../migrations")]
        async fn new_keys_revocations_and_disabled_teams_are_followed(pool: PgPool) -> store::Result<()> {
            let cache = KeyCache::new();
            let (first, gone) = (make(&pool, "search").await?, make(&pool, "search").await?);
            key::revoke(&mut *pool.acquire().await?, &gone.key_id).await?;
            cache.refresh(&pool).await?;
            assert!(ask(&cache, &first, Instant::now()).is_ok_and(|caller| caller.is_some()));
            assert_eq!(ask(&cache, &gone, Instant::now()), Ok(None));

            let second = make(&pool, "search").await?;
            cache.catch_up(&pool, Instant::now()).await.expect("the database is there");
            assert!(ask(&cache, &second, Instant::now()).is_ok_and(|caller| caller.is_some()));

            key::revoke(&mut *pool.acquire().await?, &first.key_id).await?;
            cache.refresh(&pool).await?;
            assert_eq!(ask(&cache, &first, Instant::now()), Ok(None));

            team::disable(&mut *pool.acquire().await?, "search").await?;
            cache.refresh(&pool).await?;
            assert_eq!(ask(&cache, &second, Instant::now()), Err(AuthError::TeamDisabled("search".into())));
            Ok(())
        }
    }
}
