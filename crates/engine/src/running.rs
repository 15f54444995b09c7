//! The loops of a running process: their start, and the order of their end. They are spawned here, so that they are compiled
//! with this crate and not again with every program that runs them.

use std::{sync::Arc, time::Duration};

use admission::{budgets, granter};
use notify::alerts;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    Engine, Roles, admit, claim, config, executor,
    intents::{self, IntentQueue},
    jobs, maintenance, settle,
    settle::Queue,
};
use admission::route;

/// Everything of a process that runs by itself, until [`Running::end`].
pub struct Running {
    claiming: CancellationToken,
    /// Cancelled last; what else runs as long as the gateway does may wait for it.
    pub background: CancellationToken,
    settling: CancellationToken,
    working: Option<(JoinHandle<()>, JoinHandle<()>)>,
    settler: JoinHandle<()>,
    loops: JoinSet<()>,
}

impl Running {
    pub fn start(engine: &Arc<Engine>, roles: Roles, intents: IntentQueue, settlements: Queue) -> Self {
        let (claiming, background, settling) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut loops = JoinSet::new();
        let (e, stop) = (|| Arc::clone(engine), || background.clone());
        loops.spawn(maintenance::heartbeat(e(), stop()));
        loops.spawn(config::follow_catalog(e(), stop()));
        loops.spawn(admit::follow_keys(e()));
        loops.spawn(route::by_hand::follow(Arc::clone(&engine.control), stop()));
        let notifier = || Arc::clone(&engine.notifier);
        loops.spawn(granter::run_limits(Arc::clone(&engine.control), stop()));
        loops.spawn(granter::run_budgets(Arc::clone(&engine.control), stop()));
        loops.spawn(jobs::keep_guard(e(), stop()));
        loops.spawn(intents::run(e(), intents));
        let settler = tokio::spawn(settle::run(e(), settlements, settling.clone()));
        if roles.worker || roles.maintenance {
            loops.spawn(maintenance::finish_jobs(e(), stop()));
            loops.spawn(maintenance::wake_retries(e(), stop()));
        }
        let seen = e();
        let down_for = move |least| seen.control.health.down_for(least);
        loops.spawn(alerts::tell_of_outages(notifier(), down_for, stop()));
        loops.spawn(alerts::tell_of_notices(notifier(), stop()));
        if roles.maintenance {
            loops.spawn(maintenance::reap(e(), stop()));
            loops.spawn(alerts::deliver(notifier(), stop()));
        }
        let working = roles.worker.then(|| {
            loops.spawn(maintenance::listen(e(), stop()));
            loops.spawn(maintenance::stop_cancelled(e(), stop()));
            let (send, receive) = mpsc::channel(engine.settings.slots.max(1));
            let claimer = tokio::spawn(claim::run(e(), send, claiming.clone()));
            let engine = e();
            let worker = tokio::spawn(async move {
                if let Err(error) = executor::run(engine, receive).await {
                    error!(%error, "The worker ended with an error");
                }
            });
            (claimer, worker)
        });
        Self { claiming, background, settling, working, settler, loops }
    }

    /// Stops claiming; calls in flight continue.
    pub fn stop_claiming(&self) {
        self.claiming.cancel();
    }

    /// Unstarted requests go back at once, calls under way may end within `drain`, everything is booked.
    pub async fn end(mut self, engine: &Engine, drain: Duration) {
        self.claiming.cancel();
        engine.fence.stop_starting();
        // Both kinds of calls share the time that they are given, also those whose callers have gone.
        tokio::join!(engine.calls.end(drain), end_work(self.working.take(), engine, drain));
        self.settling.cancel();
        let _ = self.settler.await;
        self.background.cancel();
        self.loops.shutdown().await;
        if let Err(error) = leave(engine).await {
            warn!(%error, "This process's place among the workers could not be given up; others will once its lease ends");
        }
    }
}

async fn end_work(working: Option<(JoinHandle<()>, JoinHandle<()>)>, engine: &Engine, drain: Duration) {
    let Some((claimer, mut worker)) = working else { return };
    let _ = claimer.await;
    if tokio::time::timeout(drain, &mut worker).await.is_err() {
        warn!("Some calls did not end in time; they are booked as of unknown outcome and run again");
        engine.fence.abort_running();
        let _ = tokio::time::timeout(Duration::from_secs(5), worker).await;
    }
}

/// Gives up the place among the workers, so that nobody waits for its lease to end. What is still held is left to the reaper.
async fn leave(engine: &Engine) -> store::Result<()> {
    budgets::give_back(&engine.control).await?;
    let mut tx = engine.pools.work.begin().await?;
    // Calls whose caller went away and uploads of retries and schedules may be cut off; their intents and jobs are the reaper's.
    if engine.live.is_empty() && !store::worker::holds(&mut tx, engine.worker_id).await? {
        budgets::prove_left(&engine.control, &mut tx).await?;
        store::worker::remove(&mut tx, engine.worker_id).await?;
    } else {
        store::worker::expire(&mut tx, engine.worker_id).await?;
    }
    tx.commit().await
}
