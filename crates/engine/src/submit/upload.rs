//! An upload that has begun. It ends as a job, or it is given up: also when it is dropped, because the client went away.

use std::{io, time::Duration};

use domain::JobId;
use store::{
    PgPool, idempotency,
    ingest::{self, NewFlow, NewJob},
    quota::Quota,
};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{
    SubmitError,
    writer::{PATIENCE, Room, Writer, out_of_time},
};

/// How long a caller waits for what can be told of a failure.
const DOUBT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub struct Upload {
    pool: PgPool,
    id: ingest::Upload,
    pub writer: Writer,
    /// It is a job now, or it was given up.
    ended: bool,
}

impl Upload {
    /// Makes the job in state `uploading` and takes its idempotency key; `None` when somebody has the key.
    pub async fn begin(
        pool: &PgPool,
        job: &NewJob<'_>,
        key: Option<&str>,
        quota: Quota,
    ) -> Result<Option<Self>, SubmitError> {
        let writer = Writer::start(pool.clone(), Room { upload: job.upload, team_id: job.team_id, quota });
        // Before anything is written: the answer to the commit may be lost.
        let mut upload = Self { pool: pool.clone(), id: job.upload, writer, ended: false };
        if timeout(PATIENCE, make(pool, job, key)).await.map_err(out_of_time)?? {
            return Ok(Some(upload));
        }
        upload.ended = true;
        Ok(None)
    }

    /// Makes the job runnable; gives the number of its requests.
    pub async fn finish(mut self, flows: &[NewFlow], fingerprint: &[u8]) -> Result<i64, SubmitError> {
        if let Err(error) = self.writer.close().await {
            return Err(self.fail(error).await);
        }
        let committed = timeout(PATIENCE, commit(&self.pool, self.id, flows, fingerprint)).await;
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
        // When this cannot be done now, the drop goes on with it.
        let _ = timeout(DOUBT, give_up(&self.pool, self.id)).await;
        error
    }

    /// The answer to the commit is missing: it happened or it did not, and giving up what did happen changes nothing.
    async fn resolve(mut self, error: store::Error) -> Result<i64, SubmitError> {
        let looking = async {
            loop {
                if let Ok(outcome) = outcome(&self.pool, self.id).await {
                    return outcome;
                }
                sleep(FIRST_PAUSE).await;
            }
        };
        match timeout(DOUBT, looking).await {
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

async fn commit(pool: &PgPool, id: ingest::Upload, flows: &[NewFlow], fingerprint: &[u8]) -> store::Result<bool> {
    let mut tx = pool.begin().await?;
    let ours = ingest::finish(&mut tx, id, flows, fingerprint).await?;
    tx.commit().await?;
    Ok(ours)
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
    let mut pause = FIRST_PAUSE;
    while let Err(error) = remove(&pool, id).await {
        warn!(job.id = %JobId(id.job_id), %error, "An upload that failed could not be removed yet");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
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
        assert!(commit(&pool, upload.id, &[flow], b"print").await.unwrap());
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
