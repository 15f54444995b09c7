//! Pools and migrations. The API, the workers and the intents of synchronous calls have separate pools, so that none can use up
//! another's connections.

mod nodelay;

use std::{str::FromStr, time::Duration};

use log::LevelFilter;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

/// After this long without use a connection is asked whether it lives; in between, a ping would cost each use a round trip.
const PING_AFTER_IDLE: Duration = Duration::from_secs(3);

/// How many connections each kind of work may hold, and how long one statement may take.
#[derive(Debug, Clone, Copy)]
pub struct PoolSizes {
    pub api: u32,
    pub work: u32,
    pub statement_timeout: Duration,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self { api: 10, work: 8, statement_timeout: Duration::from_secs(30) }
    }
}

#[derive(Debug, Clone)]
pub struct Pools {
    /// Requests of callers: submit, read, administer.
    pub api: PgPool,
    /// Claim, settle, grants, maintenance.
    pub work: PgPool,
    /// Intents of synchronous calls only, so that no other load delays an answer.
    pub intents: PgPool,
}

/// One writes; another takes its place when it died.
const INTENT_CONNECTIONS: u32 = 2;
/// A caller waits for an intent, so it hears soon that the database is away.
const INTENT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects lazily: the database may still be starting. Every statement has a time-out, so that a connection that died
/// silently cannot hang a claim or a heartbeat.
pub fn connect(url: &str, sizes: PoolSizes) -> sqlx::Result<Pools> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("tollway")
        .options([
            ("statement_timeout", sizes.statement_timeout.as_millis().to_string()),
            // A process that stands still loses the locks that others wait for.
            ("idle_in_transaction_session_timeout", "10000".to_owned()),
            // A network that carries nothing ends what the server waits for, such as the rest of a COPY, which no other time-out does.
            ("tcp_keepalives_idle", "5".to_owned()),
            ("tcp_keepalives_interval", "2".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("default_toast_compression", "lz4".to_owned()),
            ("jit", "off".to_owned()),
            // What is asked for by key is in memory. At the usual cost of 4, a table of a thousand rows is read from end to end instead.
            ("random_page_cost", "1.1".to_owned()),
            ("timezone", "UTC".to_owned()),
        ])
        .log_statements(LevelFilter::Off)
        .log_slow_statements(LevelFilter::Warn, Duration::from_secs(5));
    let port = options.get_port();
    let pool = |most: u32, acquire_timeout: Duration| {
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(acquire_timeout)
            .idle_timeout(Duration::from_secs(300))
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                Box::pin(async move {
                    nodelay::set(port);
                    Ok(())
                })
            })
            // An idle connection may have died with its server: a ping replaces it before it fails a caller.
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > PING_AFTER_IDLE {
                        conn.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone())
    };
    let acquire_timeout = Duration::from_secs(10);
    let (api, work) = (pool(sizes.api, acquire_timeout), pool(sizes.work, acquire_timeout));
    Ok(Pools { api, work, intents: pool(INTENT_CONNECTIONS, INTENT_ACQUIRE_TIMEOUT) })
}

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// Brings the schema up to date, under sqlx's own advisory lock. It may take as long as it takes: a large table is not rewritten
/// within the time of a statement of every day, nor does another replica's migration end in it.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut conn = pool.acquire().await?.detach();
    sqlx::query("set statement_timeout = 0").execute(&mut conn).await?;
    MIGRATOR.run(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

/// Whether the database answers and has every migration this version knows; a newer version's may be there as well.
pub async fn is_migrated(pool: &PgPool) -> sqlx::Result<bool> {
    // Not checked at compile time: the table is sqlx's own, and comes with the first migration.
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(pool).await?;
    if !exists {
        return Ok(false);
    }
    let applied: Vec<i64> =
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(pool).await?;
    Ok(MIGRATOR.iter().all(|migration| applied.contains(&migration.version)))
}

/// Begins a transaction on a connection that the caller keeps.
pub async fn begin(conn: &mut PgConnection) -> sqlx::Result<sqlx::Transaction<'_, sqlx::Postgres>> {
    conn.begin().await
}

/// A connection of its own that hears the notifications of one channel.
pub async fn listen(pool: &PgPool, channel: &str) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// Does `work` while holding a session's advisory lock of this name; `None`: somebody else holds it.
pub async fn exclusively<T>(pool: &PgPool, name: &str, work: impl Future<Output = T>) -> sqlx::Result<Option<T>> {
    let mut conn = pool.acquire().await?;
    let mine = sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtext($1)) as "mine!""#, name)
        .fetch_one(&mut *conn)
        .await?;
    if !mine {
        return Ok(None);
    }
    // Should the work be abandoned, the connection is closed with its lock, not handed to somebody else.
    let conn = conn.detach();
    let done = work.await;
    conn.close().await?;
    Ok(Some(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = false)]
    async fn a_migration_may_take_longer_than_a_statement(pool: PgPool) {
        let url = pool.connect_options().to_url_lossy();
        let sizes = PoolSizes { statement_timeout: Duration::from_secs(1), ..PoolSizes::default() };
        let pools = connect(url.as_str(), sizes).unwrap();
        let mut other = pool.begin().await.unwrap();
        sqlx::query("create table _sqlx_migrations (version bigint)").execute(&mut *other).await.unwrap();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            other.rollback().await.unwrap();
        };
        // It waits for the other one's table.
        let (migrated, ()) = tokio::join!(migrate(&pools.work), ends);
        migrated.unwrap();
        assert!(is_migrated(&pool).await.unwrap());
    }
}
