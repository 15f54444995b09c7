//! Intents are written while the provider works, many callers' in one statement.

use std::{sync::Arc, time::Duration};

use domain::{AttemptId, LedgerRow};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::Engine;

const QUEUE: usize = 1_024;
const BATCH: usize = 256;
/// Longer than this nobody is kept waiting for Postgres.
const PATIENCE: Duration = Duration::from_secs(5);

struct Intent {
    attempt_id: AttemptId,
    pessimist: serde_json::Value,
    durable: oneshot::Sender<()>,
}

/// Where calls say what they are about to cost.
#[derive(Debug)]
pub struct Intents(mpsc::Sender<Intent>);

pub struct IntentQueue(mpsc::Receiver<Intent>);

/// The promise that an intent is durable.
pub struct Durable(Option<oneshot::Receiver<()>>);

impl Durable {
    /// Whether it became so, within some patience.
    pub async fn reached(self) -> bool {
        match self.0 {
            Some(durable) => matches!(tokio::time::timeout(PATIENCE, durable).await, Ok(Ok(()))),
            None => false,
        }
    }
}

impl Intents {
    pub fn new() -> (Self, IntentQueue) {
        let (send, receive) = mpsc::channel(QUEUE);
        (Self(send), IntentQueue(receive))
    }

    /// Hands in the row that stands if nobody learns how the call ended. Never waits: a full queue is a database that is away.
    pub fn write(&self, pessimist: &LedgerRow) -> Durable {
        let (durable, reached) = oneshot::channel();
        let Ok(row) = serde_json::to_value(pessimist) else { return Durable(None) };
        let intent = Intent { attempt_id: pessimist.attempt_id, pessimist: row, durable };
        Durable(self.0.try_send(intent).is_ok().then_some(reached))
    }
}

/// Writes until everybody who could hand in is gone. What cannot be written is refused: its caller gets no answer.
pub async fn run(engine: Arc<Engine>, IntentQueue(mut queue): IntentQueue) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // Who no longer waits was refused, and its call is booked without an intent.
        batch.retain(|intent| !intent.durable.is_closed());
        if batch.is_empty() {
            continue;
        }
        let ids: Vec<AttemptId> = batch.iter().map(|intent| intent.attempt_id).collect();
        let rows: Vec<serde_json::Value> = batch.iter_mut().map(|intent| intent.pessimist.take()).collect();
        let written = async {
            let mut conn = engine.pools.api.acquire().await?;
            store::intent::insert(&mut conn, engine.worker_id, &ids, &rows).await
        };
        match written.await {
            Ok(()) => {
                for intent in batch.drain(..) {
                    // A caller that went away needs no answer.
                    let _ = intent.durable.send(());
                }
            }
            Err(error) => {
                warn!(%error, calls = batch.len(), "Intents could not be written; their calls get no answer");
                batch.clear();
            }
        }
    }
}
