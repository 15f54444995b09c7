//! A retry: requests of a job that ended, made a new job. Terminal states never change, so the first job stays as it is.

use std::{sync::Arc, time::Duration};

use admission::catalog::{ActiveCatalog, ActiveRoute};
use chrono::{DateTime, Utc};
use domain::{Endpoint, JobId, Lane, RetryFilter, ids::time_id};
use sha2::{Digest, Sha256};
use store::{
    PgPool,
    idempotency::Known,
    ingest::{self, NewFlow, NewJob},
    job::Scope,
    retry_lineage::Original,
};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Accepted, Intake, RetryError, SubmitError, Submitter,
    approval::{self, Load},
    idempotency,
    retry_copy::{FlowCopy, copy_all},
    upload::{Spending, Upload},
    upload_permits::UploadPermit,
    writer::QuotaRoom,
};
use crate::Engine;

/// How long the answer waits for the copies; after that it reports the job as `uploading`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the new job. It is an upload like any other, whose lines come from the database. The copying goes on when the caller goes away, and when it takes long the answer does not wait for it.
pub async fn retry(
    engine: &Engine,
    who: Submitter<'_>,
    scope: Scope,
    of: JobId,
    filter: RetryFilter,
    key: Option<&str>,
) -> Result<Accepted, RetryError> {
    let place = engine.upload_permits.take(who).await?;
    retry_by(Intake::from(engine), who, scope, of, filter, key, place).await
}

pub async fn retry_by(
    intake: Intake<'_>,
    who: Submitter<'_>,
    scope: Scope,
    of: JobId,
    filter: RetryFilter,
    key: Option<&str>,
    place: UploadPermit,
) -> Result<Accepted, RetryError> {
    idempotency::check_key(key)?;
    let original = store::retry_lineage::original(&mut *intake.pool.acquire().await?, scope, of.0).await?;
    let original = original.ok_or(RetryError::NotFound)?;
    let print = fingerprint(of, &filter);
    let key = key.map_or_else(|| default_key(of, &print), str::to_owned);
    // The job's team, which is not the key's when an admin retries it.
    let who = Submitter { team_id: original.team_id, ..who };
    if let Some(known) = idempotency::known(&intake, who, Some(&key)).await? {
        return answer(intake.pool, known, &print).await;
    }
    check(&original, &filter)?;
    let lane = lane_of(&original, who.lanes, &intake.catalog)?;
    let now = intake.clock.now();
    let targets = targets(&intake, &original, now).await?;
    let job_id = JobId::new(now);
    let upload = ingest::Upload { job_id: job_id.0, worker_id: intake.worker_id };
    let job = NewJob {
        upload,
        team_id: original.team_id,
        key_id: who.key_id,
        lane: lane.as_str(),
        name: original.name.as_deref(),
        tags: original.tags.clone(),
        priority: original.priority,
        max_attempts: original.max_attempts,
        retry_of: Some(of.0),
        after: None,
        webhook_url: original.webhook_url.as_deref(),
        start_at: None,
        deadline_at: None,
    };
    let Some(begun) = Upload::begin(intake.pool, &job, Some(&key), intake.catalog.quota()).await? else {
        let rival = idempotency::known(&intake, who, Some(&key)).await?.unwrap_or(Known::InFlight);
        return answer(intake.pool, rival, &print).await;
    };
    let room = QuotaRoom { upload, team_id: original.team_id, quota: intake.catalog.quota() };
    let (pool, catalog) = (intake.pool.clone(), Arc::clone(&intake.catalog));
    let lines = i32::try_from(original.accepted).unwrap_or(i32::MAX - 1);
    let copying = tokio::spawn(async move {
        let _place = place;
        let copying = Copying { pool, catalog, room, of, lines, filter, targets, now };
        let done = copying.fill(begun, &print).await;
        if let Err(error) = &done {
            warn!(job.id = %job_id, retry.of = %of, %error, "A retry failed");
        }
        done
    });
    let accepted = match timeout(ANSWER_TIMEOUT, copying).await {
        Ok(Ok(done)) => done?,
        Ok(Err(panic)) => return Err(store::Error::Io(std::io::Error::other(panic)).into()),
        Err(_) => 0,
    };
    Ok(Accepted { job_id, accepted, replayed: false })
}

/// What a retry copies, in a task of its own.
struct Copying {
    pool: PgPool,
    catalog: Arc<ActiveCatalog>,
    room: QuotaRoom,
    /// The job that is retried, and its lines.
    of: JobId,
    lines: i32,
    filter: RetryFilter,
    targets: Vec<FlowCopy>,
    now: DateTime<Utc>,
}

impl Copying {
    /// Copies the requests and makes the job runnable; or nothing of it stays.
    async fn fill(mut self, begun: Upload, print: &[u8; 32]) -> Result<i64, RetryError> {
        let mut copied = copy_all(&self.pool, self.room, (self.of, self.lines), &self.filter, &mut self.targets).await;
        if copied.is_ok() {
            copied = still_there(&self.pool, self.of).await;
        }
        let taken = self.targets.iter().filter(|target| target.new.items > 0);
        let flows: Vec<NewFlow> = taken.map(|target| target.new.clone()).collect();
        if let Err(error) = copied.and_then(|()| self.check(&flows)) {
            let _ = begun.fail(SubmitError::Abandoned).await;
            return Err(error);
        }
        let loads: Vec<Load<'_>> =
            self.targets.iter().filter_map(|target| Load::of_copy(target, &self.catalog)).collect();
        match approval::wanted(&self.pool, &self.catalog, self.room.team_id, &loads, self.now).await {
            Ok(approval) => Ok(begun.finish(&flows, print, Spending { approval, max_cost: None }).await?),
            Err(error) => Err(begun.fail(error.into()).await.into()),
        }
    }

    /// There is something to retry, and all of it can still be served and charged.
    fn check(&self, flows: &[NewFlow]) -> Result<(), RetryError> {
        if flows.is_empty() {
            return Err(RetryError::Nothing);
        }
        let is_served = |flow: &&NewFlow| {
            let (route, endpoint) = (self.catalog.route(&flow.route), Endpoint::from_code(flow.endpoint));
            let serves = |(route, endpoint): (&Arc<ActiveRoute>, _)| {
                route.serves(endpoint) && route.is_priced(endpoint, self.now)
            };
            route.zip(endpoint).is_some_and(serves)
        };
        match flows.iter().find(|flow| !is_served(flow)) {
            Some(flow) => Err(RetryError::NoModel { model: flow.route.clone() }),
            None => Ok(()),
        }
    }
}

/// A concurrent purge may have removed some of the requests before they were read.
async fn still_there(pool: &PgPool, of: JobId) -> Result<(), RetryError> {
    let original = store::retry_lineage::original(&mut *pool.acquire().await?, Scope::All, of.0).await?;
    if original.is_some_and(|original| !original.purged) { Ok(()) } else { Err(RetryError::Purged) }
}

fn check(original: &Original, filter: &RetryFilter) -> Result<(), RetryError> {
    if !original.state().is_some_and(domain::JobState::is_terminal) {
        return Err(RetryError::NotEnded { state: original.state.clone() });
    }
    if original.purged {
        return Err(RetryError::Purged);
    }
    let unfinished = if filter.takes_unfinished() { original.unfinished } else { 0 };
    if original.failed + unfinished == 0 { Err(RetryError::Nothing) } else { Ok(()) }
}

/// The lane of the first job, which must still take work, and which the key must be allowed to use.
fn lane_of(original: &Original, allowed: &[Lane], catalog: &ActiveCatalog) -> Result<Lane, SubmitError> {
    super::params::check_lane(&original.lane, catalog)?;
    allowed.iter().find(|lane| lane.as_str() == original.lane).cloned().ok_or_else(|| {
        let allowed = allowed.iter().map(Lane::as_str).collect::<Vec<_>>().join(", ");
        SubmitError::LaneNotAllowed { lane: original.lane.clone(), allowed }
    })
}

/// A flow of the new job for each of the first one's.
async fn targets(intake: &Intake<'_>, original: &Original, now: DateTime<Utc>) -> Result<Vec<FlowCopy>, RetryError> {
    let (Some(routes), Some(endpoints)) = (&original.routes, &original.endpoints) else {
        return Err(RetryError::TooOld);
    };
    let mut conn = intake.pool.acquire().await?;
    let mut targets: Vec<FlowCopy> = Vec::with_capacity(routes.len());
    for ((from, route), endpoint) in original.flow_ids.iter().zip(routes).zip(endpoints) {
        let mut flow_id = time_id(now);
        while targets.iter().any(|target| target.new.flow_id == flow_id) {
            flow_id = time_id(now);
        }
        let items = store::result::flow_items(&mut conn, *from).await?;
        let new = NewFlow { flow_id, route: route.clone(), endpoint: *endpoint, items: 0, max_in: 0, max_out: Some(0) };
        targets.push(FlowCopy { from: *from, next: 0, end: items, new, total_in: 0, total_out: Some(0) });
    }
    let there: i64 = targets.iter().map(|target| i64::from(target.end)).sum();
    if there < original.accepted { Err(RetryError::Purged) } else { Ok(targets) }
}

/// A caller that gives no key gives this one, so that a double click makes one job.
fn default_key(of: JobId, print: &[u8; 32]) -> String {
    let hex: String = print[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("retry/{of}/{hex}")
}

fn fingerprint(of: JobId, filter: &RetryFilter) -> [u8; 32] {
    // Plain data always serializes.
    let filter = serde_json::to_vec(filter).unwrap_or_default();
    Sha256::new().chain_update("retry").chain_update(of.0.to_be_bytes()).chain_update(filter).finalize().into()
}

async fn answer(pool: &PgPool, known: Known, print: &[u8; 32]) -> Result<Accepted, RetryError> {
    let Known::Done { job_id, fingerprint } = known else { return Err(SubmitError::InFlight.into()) };
    if fingerprint != print {
        return Err(SubmitError::Mismatch.into());
    }
    let accepted = ingest::accepted(&mut *pool.acquire().await?, job_id).await?;
    Ok(Accepted { job_id: JobId(job_id), accepted: accepted.unwrap_or(0), replayed: true })
}

#[cfg(test)]
mod tests;
