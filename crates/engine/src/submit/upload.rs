//! An upload that has begun. It ends as a job or is abandoned; a drop, as when the client disconnects, abandons it too.

use std::{io, time::Duration};

use domain::{Action, After, JobId, PauseReason, money::Total};
use serde_json::json;
use store::{
    PgPool,
    audit::{self, Entry},
    idempotency,
    ingest::{self, Begin, NewFlow, NewJob},
    pause::{self, NewPause},
    quota::Quota,
};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{
    SubmitError,
    approval::ApprovalNeeded,
    dependency::{StartDecision, start_decision},
    writer::{QuotaRoom, WRITE_TIMEOUT, Writer, out_of_time},
};
use crate::jobs::UNCLEAN;

/// How long a caller waits for what can be told of a failure.
const FAILURE_DETAIL_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The limits on the job's cost.
#[derive(Debug, Default)]
pub struct Spending {
    /// The job needs approval before it begins.
    pub approval: Option<ApprovalNeeded>,
    pub max_cost: Option<Total>,
}

pub struct Upload {
    pool: PgPool,
    id: ingest::Upload,
    origin: Origin,
    pub writer: Writer,
    /// It is a job now, or it was given up.
    ended: bool,
}

/// What the job's end of upload and its history need of how it came.
#[derive(Debug, Clone)]
struct Origin {
    team_id: i64,
    key_id: String,
    retry_of: Option<JobId>,
    after: Option<After>,
}

impl Origin {
    fn of(job: &NewJob<'_>) -> Self {
        let retry_of = job.retry_of.map(JobId);
        Self { team_id: job.team_id, key_id: job.key_id.to_owned(), retry_of, after: job.after }
    }
}

impl Upload {
    /// Makes the job in state `uploading` and takes its idempotency key; `None` when somebody has the key.
    pub async fn begin(
        pool: &PgPool,
        job: &NewJob<'_>,
        key: Option<&str>,
        quota: Quota,
    ) -> Result<Option<Self>, SubmitError> {
        let writer = Writer::start(pool.clone(), QuotaRoom { upload: job.upload, team_id: job.team_id, quota });
        // Before anything is written: the answer to the commit may be lost.
        let mut upload = Self { pool: pool.clone(), id: job.upload, origin: Origin::of(job), writer, ended: false };
        if timeout(WRITE_TIMEOUT, make(pool, job, key)).await.map_err(out_of_time)?? {
            return Ok(Some(upload));
        }
        upload.ended = true;
        Ok(None)
    }

    /// Makes the job runnable, unless it has to be approved first; gives the number of its requests.
    pub async fn finish(
        mut self,
        flows: &[NewFlow],
        fingerprint: &[u8],
        spending: Spending,
    ) -> Result<i64, SubmitError> {
        if let Err(error) = self.writer.close().await {
            return Err(self.fail(error).await);
        }
        let committing = commit(&self.pool, self.id, &self.origin, flows, fingerprint, &spending);
        let committed = timeout(WRITE_TIMEOUT, committing).await;
        match committed.unwrap_or_else(|_| Err(store::Error::Io(io::ErrorKind::TimedOut.into()))) {
            Ok(true) => {
                self.ended = true;
                Ok(flows.iter().map(|flow| i64::from(flow.items)).sum())
            }
            Ok(false) => Err(self.fail(SubmitError::Abandoned).await),
            Err(error) => self.resolve(error).await,
        }
    }

    /// Gives it up, so that the key is free when the caller hears of the error; the items go later.
    pub async fn fail(self, error: SubmitError) -> SubmitError {
        // If this fails now, the drop retries it.
        let _ = timeout(FAILURE_DETAIL_TIMEOUT, give_up(&self.pool, self.id)).await;
        error
    }

    /// The answer to the commit is missing: it happened or it did not, and giving up what did happen changes nothing.
    async fn resolve(mut self, error: store::Error) -> Result<i64, SubmitError> {
        let looking = async {
            loop {
                if let Ok(outcome) = outcome(&self.pool, self.id).await {
                    return outcome;
                }
                sleep(MIN_BACKOFF).await;
            }
        };
        match timeout(FAILURE_DETAIL_TIMEOUT, looking).await {
            Ok(Some(accepted)) => {
                self.ended = true;
                Ok(accepted)
            }
            Ok(None) => Err(SubmitError::Unavailable(error)),
            Err(_) => Err(SubmitError::InDoubt { job: JobId(self.id.job_id) }),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Without a runtime the process is ending: others give up what a dead worker was uploading.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(clean_up(self.pool.clone(), self.id));
        }
    }
}

/// False when the key is taken; then nothing is written.
async fn make(pool: &PgPool, job: &NewJob<'_>, key: Option<&str>) -> store::Result<bool> {
    let mut tx = pool.begin().await?;
    if let Some(key) = key
        && !idempotency::reserve(&mut tx, job.team_id, key, job.upload.job_id).await?
    {
        return Ok(false);
    }
    ingest::begin(&mut tx, job).await?;
    tx.commit().await?;
    Ok(true)
}

async fn commit(
    pool: &PgPool,
    id: ingest::Upload,
    origin: &Origin,
    flows: &[NewFlow],
    fingerprint: &[u8],
    spending: &Spending,
) -> store::Result<bool> {
    let mut tx = pool.begin().await?;
    let decision = start_decision(&mut tx, origin.team_id, origin.after).await?;
    let begin = if let StartDecision::Begins(begin) = decision { begin } else { Begin::WaitingOnJob };
    let ours = ingest::finish(&mut tx, id, flows, fingerprint, begin).await?;
    if ours {
        record(&mut tx, id, origin, flows).await?;
        if let Some(most) = spending.max_cost {
            store::budget::cap_job(&mut tx, id.job_id, most.0).await?;
        }
        if let Some(wanted) = spending.approval.as_ref().filter(|_| decision != StartDecision::IsCancelled) {
            require_approval(&mut tx, JobId(id.job_id), wanted).await?;
        }
    }
    if ours && decision == StartDecision::IsCancelled {
        store::dependency::cancel(&mut tx, JobId(id.job_id)).await?;
        let details = json!({ "after": origin.after.map(|after| after.job), "reason": UNCLEAN });
        let entry = Entry { job_id: id.job_id, key_id: None, action: Action::Cancel, details };
        audit::record(&mut tx, entry).await?;
    }
    tx.commit().await?;
    Ok(ours)
}

/// Keeps the job from running before it is approved.
async fn require_approval(conn: &mut store::PgConnection, job: JobId, wanted: &ApprovalNeeded) -> store::Result<()> {
    store::job::pause(conn, job).await?;
    let ApprovalNeeded { why, at } = wanted;
    let new = NewPause { job, reason: PauseReason::Approval, part_id: 0, detail: why, needs: 0, at: *at };
    pause::put(conn, new).await?;
    let details = json!({ "by": "approval", "reason": why });
    audit::record(conn, Entry { job_id: job.0, key_id: None, action: Action::Pause, details }).await
}

/// In the new job's history, and in that of the job whose requests these are, tried again.
async fn record(
    conn: &mut store::PgConnection,
    id: ingest::Upload,
    origin: &Origin,
    flows: &[NewFlow],
) -> store::Result<()> {
    let requests: i64 = flows.iter().map(|flow| i64::from(flow.items)).sum();
    let key_id = Some(origin.key_id.as_str());
    let Some(of) = origin.retry_of else {
        let details = json!({ "requests": requests });
        return audit::record(conn, Entry { job_id: id.job_id, key_id, action: Action::Submit, details }).await;
    };
    let details = json!({ "requests": requests, "of": of });
    audit::record(conn, Entry { job_id: id.job_id, key_id, action: Action::Retry, details }).await?;
    let details = json!({ "requests": requests, "as": JobId(id.job_id) });
    audit::record(conn, Entry { job_id: of.0, key_id, action: Action::Retried, details }).await
}

/// A chunk that is being written does not matter: its transaction holds the job's row, and the next one no longer finds it.
async fn give_up(pool: &PgPool, id: ingest::Upload) -> store::Result<bool> {
    ingest::abandon(&mut *pool.acquire().await?, id).await
}

/// Gives the upload up unless it made it: then the number of its requests.
async fn outcome(pool: &PgPool, id: ingest::Upload) -> store::Result<Option<i64>> {
    if give_up(pool, id).await? {
        return Ok(None);
    }
    ingest::accepted(&mut *pool.acquire().await?, id.job_id).await
}

/// Gives the upload up and removes what it left, however long the database is away. The process may end before: then its
/// uploads are a dead worker's.
async fn clean_up(pool: PgPool, id: ingest::Upload) {
    let mut pause = MIN_BACKOFF;
    while let Err(error) = remove(&pool, id).await {
        warn!(job.id = %JobId(id.job_id), %error, "An upload that failed could not be removed yet");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_BACKOFF);
    }
}

async fn remove(pool: &PgPool, id: ingest::Upload) -> store::Result<()> {
    give_up(pool, id).await?;
    ingest::sweep(&mut *pool.acquire().await?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Endpoint, ids::time_id};

    async fn begun(pool: &PgPool) -> (Upload, NewFlow) {
        sqlx::query("insert into team (name) values ('t')").execute(pool).await.unwrap();
        let job_id = time_id(chrono::Utc::now());
        let job = NewJob {
            upload: ingest::Upload { job_id, worker_id: 5 },
            team_id: 1,
            key_id: "k",
            lane: "bulk",
            name: None,
            tags: serde_json::json!({}),
            priority: 0,
            max_attempts: 5,
            retry_of: None,
            after: None,
            webhook_url: None,
            start_at: None,
            deadline_at: None,
        };
        let endpoint = Endpoint::Embeddings.code();
        let flow = NewFlow { flow_id: job_id, route: "e5".into(), endpoint, items: 3, max_in: 1, max_out: None };
        (Upload::begin(pool, &job, Some("key"), Quota { requests: 100, bytes: 1 << 20 }).await.unwrap().unwrap(), flow)
    }

    /// The flow's items, as the writer brings them in.
    async fn append(pool: &PgPool, upload: &Upload, flow: &NewFlow) {
        let mut items = ingest::Items::new(0);
        for pos in 0..flow.items {
            let NewFlow { flow_id, .. } = *flow;
            items.push(ingest::NewItem {
                flow_id,
                pos,
                line: pos + 1,
                est_in: 1,
                max_out: None,
                custom_id: "c",
                body: "{}",
            });
        }
        let mut tx = ingest::begin_append(pool).await.unwrap();
        assert!(ingest::append(&mut tx, upload.id, &[flow.flow_id], &mut items).await.unwrap());
        tx.commit().await.unwrap();
    }

    fn lost() -> store::Error {
        store::Error::Io(io::ErrorKind::ConnectionReset.into())
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_commit_whose_answer_was_lost_counts(pool: PgPool) {
        let (upload, flow) = begun(&pool).await;
        append(&pool, &upload, &flow).await;
        assert!(commit(&pool, upload.id, &upload.origin, &[flow], b"print", &Spending::default()).await.unwrap());
        assert_eq!(upload.resolve(lost()).await.unwrap(), 3);
        let state: String = sqlx::query_scalar("select state from job").fetch_one(&pool).await.unwrap();
        assert_eq!(state, "queued");
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_commit_that_was_lost_itself_is_given_up(pool: PgPool) {
        let (upload, _) = begun(&pool).await;
        assert!(matches!(upload.resolve(lost()).await, Err(SubmitError::Unavailable(_))));
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(idempotency::find(&mut conn, 1, "key").await.unwrap(), None);
    }
}
