//! Returns the leases of dead processes: requests go back to the queue, their calls into the ledger as of unknown
//! outcome.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use admission::{
    budgets,
    catalog::{ActiveCatalog, ActiveDeployment},
    worst_case,
};
use domain::{AttemptReason, Endpoint, ErrorClass, JobId, LedgerRow, RequestId, Tags};
use store::{
    lease::Orphan,
    retry::NewRetry,
    settlement::{NewResult, Tally},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Engine,
    meter::{self, Attempt, Subject},
};

/// Requests returned in one transaction.
const CHUNK: i64 = 500;

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(engine.settings.lease / 10) => {}
        }
        // Passed over until the next round.
        let mut stuck = Vec::new();
        loop {
            match chunk(&engine, &mut stuck).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    warn!(%error, "The leases of a dead process could not be returned; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    break;
                }
            }
        }
    }
}

/// Returns a chunk of the leases and intents of one dead process; `false` if there is no dead process. A process that
/// stalls, or is cut off, in the middle of a COPY keeps its rows locked as long as its connection lives, whatever its
/// time-outs. That delays nothing else, and the process is among the `stuck`.
async fn chunk(engine: &Engine, stuck: &mut Vec<i64>) -> store::Result<bool> {
    let catalog = engine.catalog.get();
    let now = engine.clock.now();
    let mut tx = engine.pools.work.begin().await?;
    let Some(dead) = store::worker::lock_dead(&mut tx, stuck).await? else { return Ok(false) };
    let orphans = store::lease::take_orphans(&mut tx, dead, CHUNK).await?;
    let intents = store::intent::take_orphans(&mut tx, dead, CHUNK).await?;
    if orphans.is_empty() && intents.is_empty() {
        store::ingest::abandon_uploads_of(&mut tx, dead).await?;
        if store::worker::holds(&mut tx, dead).await? {
            tx.commit().await?;
            stuck.push(dead);
            return Ok(true);
        }
        store::budget::close(&mut tx, dead).await?;
        store::worker::remove(&mut tx, dead).await?;
        tx.commit().await?;
        info!(worker = dead, "A process is gone; all of its leases were returned");
        return Ok(true);
    }
    let mut ledger: Vec<LedgerRow> = Vec::new();
    for intent in intents {
        match serde_json::from_value::<LedgerRow>(intent.pessimist) {
            Ok(row) => ledger.push(row),
            Err(error) => {
                warn!(%error, attempt = %intent.attempt_id, "An intent cannot be read; it was made by another version");
            }
        }
    }
    let (mut retries, mut results, mut tallies) = (Vec::new(), Vec::new(), BTreeMap::<i64, Tally>::new());
    for orphan in &orphans {
        let started = orphan.started_at.is_some();
        let failures = orphan.failures + i16::from(started);
        let dead_letter = failures >= orphan.max_attempts;
        if started {
            let mut row = unknown_row(&catalog, orphan, dead, now);
            row.is_final = dead_letter;
            let tally = tallies.entry(orphan.job_id).or_default();
            tally.attempts += 1;
            tally.failed += i64::from(dead_letter);
            match row.contracted_cost {
                Some(cost) => tally.cost_pico += i128::from(cost),
                None => tally.unpriced += 1,
            }
            ledger.push(row);
        }
        if dead_letter {
            results.push(dead_letter_of(orphan));
        } else {
            retries.push(NewRetry {
                flow_id: orphan.flow_id,
                pos: orphan.pos,
                epoch: orphan.epoch + 1,
                attempt_no: orphan.attempt_no - i32::from(!started),
                failures,
                due_at: now,
                last_error: Some("worker lost".to_owned()),
                last_deployment: Some(orphan.deployment.clone()),
            });
        }
    }
    // A call may be booked and its intent stand all the same: when the intent came to the database after the row.
    let ids: Vec<_> = ledger.iter().map(|row| row.attempt_id).collect();
    let known = if ids.is_empty() { Vec::new() } else { store::ledger::known(&mut tx, &ids).await? };
    ledger.retain(|row| row.job_id.is_some() || !known.contains(&row.attempt_id));
    store::retry::insert(&mut tx, &retries).await?;
    store::settlement::insert_results(&mut tx, &results.iter().collect::<Vec<_>>()).await?;
    if let Some(revision) = store::ledger::insert(&mut tx, &ledger).await? {
        budgets::book_rows(&mut tx, &engine.control.budgets, ledger.iter(), revision, budgets::RowsOf::Others).await?;
    }
    store::settlement::add_tallies(&mut tx, engine.worker_id, &tallies).await?;
    tx.commit().await?;
    info!(worker = dead, requests = orphans.len(), "Returned the leases of a dead process");
    engine.settler.touched(orphans.iter().map(|orphan| orphan.job_id));
    Ok(true)
}

fn request_id(orphan: &Orphan) -> String {
    RequestId { job: JobId(orphan.job_id), line: orphan.line }.to_string()
}

/// Books the call under the worker that made it.
fn unknown_row(
    catalog: &Arc<ActiveCatalog>,
    orphan: &Orphan,
    dead: i64,
    now: chrono::DateTime<chrono::Utc>,
) -> LedgerRow {
    let subject = Subject {
        request_id: request_id(orphan),
        job_id: Some(orphan.job_id),
        custom_id: Some(orphan.custom_id.clone()),
        team: orphan.team.as_str().into(),
        tags: Arc::new(serde_json::from_value::<Tags>(orphan.tags.clone()).unwrap_or_else(|_| Tags::default())),
        key_id: orphan.key_id.as_str().into(),
        lane: orphan.lane.parse().unwrap_or_else(|_| domain::Lane::bulk()),
        model: orphan.route.as_str().into(),
        submitted_at: orphan.submitted_at,
        est_in: i64::from(orphan.est_in),
        max_out: orphan.max_out.map(i64::from),
    };
    let started = orphan.started_at.unwrap_or(orphan.claimed_at);
    match catalog.deployment(&orphan.deployment) {
        Some(deployment) => {
            let attempt = Attempt {
                id: orphan.attempt_id,
                no: orphan.attempt_no,
                reason: if orphan.attempt_no == 1 { AttemptReason::Primary } else { AttemptReason::Retry },
                fallback_from: None,
                deployment: Arc::<ActiveDeployment>::clone(deployment),
                endpoint: Endpoint::from_code(orphan.endpoint).unwrap_or(Endpoint::ChatCompletions),
                reserved_at: orphan.claimed_at,
                reserved: worst_case::cost(deployment, subject.est_in, subject.max_out, orphan.claimed_at),
            };
            meter::unknown_row(dead, &subject, &attempt, started, now)
        }
        None => meter::undeclared_row(
            dead,
            &subject,
            (orphan.attempt_id, orphan.attempt_no),
            &orphan.deployment,
            started,
            now,
        ),
    }
}

fn dead_letter_of(orphan: &Orphan) -> NewResult {
    NewResult {
        job_id: orphan.job_id,
        line: orphan.line,
        custom_id: orphan.custom_id.clone(),
        ok: false,
        attempts: orphan.attempt_no,
        status_code: None,
        request_id: None,
        deployment: Some(orphan.deployment.clone()),
        endpoint: orphan.endpoint,
        body: None,
        vectors: None,
        dims: None,
        base64: false,
        error_class: Some(ErrorClass::Unknown.as_str()),
        error_message: Some(format!(
            "the worker was lost in each of {} tries; the outcome of the calls is unknown",
            orphan.failures + 1
        )),
    }
}

#[cfg(test)]
mod tests;
