//! Chores by the clock, under apalis-cron. A tick fires on every replica; an advisory lock lets one of them do it.

use std::{str::FromStr, sync::Arc};

use anyhow::Context;
use apalis::prelude::*;
use apalis_cron::{CronScheduler, Tick};
use engine::{Engine, maintenance};
use lake::{LakeError, LakeStore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    /// Ledger rows become files of the lake.
    Export,
    /// Small files of past days become large ones.
    Compact,
    Webhooks,
    /// Alerts: budgets that reached a threshold, and all other kinds.
    Budgets,
    /// How budgets stand is kept, to tell how fast they burn.
    Samples,
    Troubles,
    /// Jobs that a guard paused are resumed when they spend less.
    Guards,
    Vacuum,
    /// Statements are planned anew for tables that have grown.
    Plans,
    /// The counts of ended jobs are put together.
    Tallies,
    /// Partitions ahead are made, those past their retention dropped.
    Partitions,
    /// Recurring jobs whose tick has come are submitted.
    Schedules,
    /// What abandoned uploads, old webhooks, old alerts, removed lanes and past windows of budgets left.
    Sweep,
}

/// Second, minute, hour, day, month, weekday; UTC.
const CHORES: [(Chore, &str); 13] = [
    (Chore::Export, "*/15 * * * * *"),
    (Chore::Webhooks, "*/2 * * * * *"),
    (Chore::Budgets, "*/3 * * * * *"),
    (Chore::Samples, "0 * * * * *"),
    (Chore::Troubles, "*/30 * * * * *"),
    (Chore::Guards, "* * * * * *"),
    (Chore::Schedules, "* * * * * *"),
    (Chore::Vacuum, "30 * * * * *"),
    (Chore::Plans, "*/5 * * * * *"),
    (Chore::Sweep, "10 * * * * *"),
    (Chore::Tallies, "20 * * * * *"),
    (Chore::Compact, "0 20 1 * * *"),
    (Chore::Partitions, "0 5 0 * * *"),
];

/// Runs them until `stop` is cancelled.
pub async fn run(engine: Arc<Engine>, lake: LakeStore, stop: CancellationToken) {
    let lake = Arc::new(lake);
    let mut monitor = Monitor::new();
    for (chore, when) in CHORES {
        let (engine, lake) = (Arc::clone(&engine), Arc::clone(&lake));
        let Ok(schedule) = cron::Schedule::from_str(when) else { continue };
        monitor = monitor.register(move |_| {
            let (engine, lake) = (Arc::clone(&engine), Arc::clone(&lake));
            let perform = move |_: Tick| {
                let (engine, lake) = (Arc::clone(&engine), Arc::clone(&lake));
                async move {
                    Box::pin(perform(chore, &engine, &lake)).await;
                    Ok::<(), BoxDynError>(())
                }
            };
            WorkerBuilder::new(format!("chore-{chore:?}").as_str())
                .backend(CronScheduler::new(schedule.clone()))
                .catch_panic()
                .build(perform)
        });
    }
    let ended = monitor
        .run_with_signal(async move {
            stop.cancelled().await;
            Ok(())
        })
        .await;
    if let Err(error) = ended {
        warn!(%error, "Chores ended");
    }
}

async fn perform(chore: Chore, engine: &Engine, lake: &LakeStore) {
    let name = format!("tollway_chore_{chore:?}");
    let work = Box::pin(work(chore, engine, lake));
    match store::connect::exclusively(&engine.pools.work, &name, work).await {
        // Another replica is at it.
        Ok(None) | Ok(Some(Ok(()))) => {}
        Ok(Some(Err(error))) => {
            warn!(?chore, error = format!("{error:#}"), "A chore failed; it is tried again at its next time");
        }
        Err(error) => warn!(?chore, %error, "A chore could not begin; it is tried again at its next time"),
    }
}

async fn work(chore: Chore, engine: &Engine, lake: &LakeStore) -> anyhow::Result<()> {
    let (pool, now) = (&engine.pools.work, engine.clock.now());
    match chore {
        Chore::Export => match lake::export(pool, lake, now).await {
            Ok(_) | Err(LakeError::Busy) => {}
            Err(error) => return Err(error).context("the ledger could not be exported; its rows stay in the database"),
        },
        Chore::Compact => match lake::compact(pool, lake, now).await {
            Ok(done) => info!(?done, "Compacted the lake"),
            Err(LakeError::Busy) => {}
            Err(error) => return Err(error).context("the lake could not be compacted"),
        },
        Chore::Webhooks => {
            notify::webhook::deliver_due(&engine.notifier).await?;
        }
        Chore::Budgets => {
            notify::alerts::tell_of_budgets(&engine.notifier).await?;
        }
        Chore::Samples => admission::budgets::sample(&engine.control).await?,
        Chore::Troubles => {
            notify::alerts::tell_of_troubles(&engine.notifier, &engine.catalog.get()).await?;
        }
        Chore::Guards => engine::jobs::resume_guarded(engine).await?,
        Chore::Schedules => {
            engine::schedules::run_due(engine).await?;
        }
        Chore::Vacuum => maintenance::vacuum(engine).await?,
        Chore::Plans => maintenance::refresh_plans(engine).await?,
        Chore::Tallies => maintenance::fold_tallies(engine).await?,
        Chore::Partitions => maintenance::rotate_partitions(engine).await?,
        Chore::Sweep => maintenance::sweep(engine).await?,
    }
    Ok(())
}
