//! Intents are written while the provider works, many callers' in one statement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{AttemptId, LedgerRow};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::Engine;

const QUEUE: usize = 1_024;
const BATCH: usize = 256;
/// The longest that a caller waits for an intent to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the database is probed while it is away.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

struct Intent {
    attempt_id: AttemptId,
    provisional_row: String,
    durable: oneshot::Sender<()>,
    given_up: Arc<AtomicBool>,
}

/// Where calls say what they are about to cost.
#[derive(Debug)]
pub struct Intents {
    send: mpsc::Sender<Intent>,
    /// The last ones could not be written, so the next could not either.
    failing: Arc<AtomicBool>,
}

pub struct IntentQueue {
    receive: mpsc::Receiver<Intent>,
    failing: Arc<AtomicBool>,
}

/// The promise that an intent is durable.
pub struct Durable(Option<(oneshot::Receiver<()>, Arc<AtomicBool>)>);

impl Durable {
    /// Waits, for a bounded time, until the intent is durable.
    pub async fn reached(self) -> bool {
        let Some((mut durable, given_up)) = self.0 else { return false };
        let reached = matches!(tokio::time::timeout(WRITE_TIMEOUT, &mut durable).await, Ok(Ok(())));
        // Before the receiver goes, so that the writer who finds it gone finds out why.
        given_up.store(!reached, Ordering::Release);
        reached
    }
}

impl Intents {
    pub fn new() -> (Self, IntentQueue) {
        let (send, receive) = mpsc::channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        (Self { send, failing: Arc::clone(&failing) }, IntentQueue { receive, failing })
    }

    /// Whether intents can be written, as far as is known. A call without an intent gets no answer, so none is made
    /// while intents cannot be written.
    pub fn can_be_written(&self) -> bool {
        !self.failing.load(Ordering::Acquire)
    }

    /// Hands in the row that stands if nobody learns how the call ended. Never waits: a full queue is a database that is away.
    pub fn write(&self, provisional_row: &LedgerRow) -> Durable {
        let (durable, reached) = oneshot::channel();
        let Ok(row) = serde_json::to_string(provisional_row) else { return Durable(None) };
        let given_up = Arc::new(AtomicBool::new(false));
        let intent = Intent {
            attempt_id: provisional_row.attempt_id,
            provisional_row: row,
            durable,
            given_up: Arc::clone(&given_up),
        };
        Durable(self.send.try_send(intent).is_ok().then_some((reached, given_up)))
    }
}

/// Writes intents until all senders are gone. An intent that cannot be written is refused, and its caller gets no
/// answer.
pub async fn run(engine: Arc<Engine>, queue: IntentQueue) {
    let IntentQueue { receive: mut queue, failing } = queue;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if failing.load(Ordering::Acquire) {
            // Intents handed in before the failure was known are refused at once.
            while queue.try_recv().is_ok() {}
            tokio::time::sleep(PROBE_INTERVAL).await;
            failing.store(!can_write(&engine).await, Ordering::Release);
            continue;
        }
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        // A caller that gave up was refused, and its call is booked without an intent.
        batch.retain(|intent| !intent.given_up.load(Ordering::Acquire));
        if batch.is_empty() {
            continue;
        }
        let ids: Vec<AttemptId> = batch.iter().map(|intent| intent.attempt_id).collect();
        let rows: Vec<String> = batch.iter_mut().map(|intent| std::mem::take(&mut intent.provisional_row)).collect();
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            let mut conn = engine.pools.intents.acquire().await?;
            store::intent::insert(&mut conn, engine.worker_id, &ids, &rows).await?;
            Ok(conn)
        });
        match written.await.unwrap_or_else(|_| Err(no_answer())) {
            Ok(mut conn) => {
                // One that gave up meanwhile may be booked already, by who found no intent to end.
                let late: Vec<AttemptId> = batch
                    .drain(..)
                    .filter_map(|intent| {
                        let is_late = intent.durable.send(()).is_err() && intent.given_up.load(Ordering::Acquire);
                        is_late.then_some(intent.attempt_id)
                    })
                    .collect();
                if !late.is_empty()
                    && let Err(error) = store::intent::end(&mut conn, &late).await
                {
                    warn!(%error, "Intents of calls that were given up stay until this process ends");
                }
            }
            Err(error) => {
                warn!(%error, calls = batch.len(), "Intents could not be written; their calls get no answer");
                batch.clear();
                // What is refused for what is in it says nothing of the next.
                failing.store(store::refusal(&error).is_none(), Ordering::Release);
            }
        }
    }
}

async fn can_write(engine: &Engine) -> bool {
    let asked = tokio::time::timeout(WRITE_TIMEOUT, async {
        let mut conn = engine.pools.intents.acquire().await?;
        store::worker::database_now(&mut conn).await
    });
    matches!(asked.await, Ok(Ok(_)))
}

fn no_answer() -> store::Error {
    store::Error::Io(std::io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use store::PgPool;

    fn provisional_row(engine: &Engine) -> LedgerRow {
        testing::call_row(&engine.catalog.get(), engine.worker_id)
    }

    /// While the database is away, calls are refused at once; when it is back, they succeed again.
    #[sqlx::test(migrations = "../../migrations")]
    async fn while_none_can_be_written_that_is_known(pool: PgPool) {
        let (engine, queue) = testing::engine(&pool, Duration::from_secs(30)).await;
        let writing = tokio::spawn(run(Arc::clone(&engine), queue));
        assert!(engine.intents.write(&provisional_row(&engine)).reached().await);
        let away = "create function away() returns trigger language plpgsql as
                        $$ begin raise exception 'shutting down' using errcode = '57P01'; end $$;
                    create trigger away before insert on intent for each row execute function away();";
        sqlx::raw_sql(away).execute(&pool).await.unwrap();
        assert!(engine.intents.can_be_written());
        assert!(!engine.intents.write(&provisional_row(&engine)).reached().await);
        while engine.intents.can_be_written() {
            tokio::task::yield_now().await;
        }
        sqlx::raw_sql("drop trigger away on intent").execute(&pool).await.unwrap();
        while !engine.intents.can_be_written() {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        assert!(engine.intents.write(&provisional_row(&engine)).reached().await);
        writing.abort();
    }
}
