use domain::Job;
use store::PgPool;

use super::*;
use crate::{
    jobs::{self, By},
    testing,
};

const BY: By<'_> = By { scope: Scope::All, key_id: "k" };
const LEASE: Duration = Duration::from_secs(30);

/// A job in this state with a flow, of which everything was claimed, and so many retries that wait.
async fn job(pool: &PgPool, id: i64, state: &str, retries: i32) {
    for statement in [
        "insert into job (job_id, team_id, key_id, lane, state, accepted, started_at, webhook_url)
         values ($1, 1, 'k', 'bulk', $2, $3, now(), case $1 when 7 then 'http://127.0.0.1:9/' end)",
        "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, next_pos, tail_pos, max_in, max_attempts, state)
         values ($1, $1, 1, 'bulk', 'e5', 2, 'k', 0, $3, $3, 9, 5, case $2 when 'paused' then 'paused' else 'ready' end)",
        "insert into retry (flow_id, pos, epoch, attempt_no, failures, due_at)
         select $1, n, 2, 1, 1, now() + interval '1 hour' from generate_series(1, $3) n where $2 <> ''",
    ] {
        sqlx::query(statement).bind(id).bind(state).bind(retries).execute(pool).await.unwrap();
    }
}

async fn shown(pool: &PgPool, id: i64) -> Job {
    store::job::get(&mut pool.acquire().await.unwrap(), Scope::All, JobId(id)).await.unwrap().unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_job_that_could_not_be_ended_is_not_forgotten(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, LEASE).await;
    for id in [7, 8] {
        job(&pool, id, "running", 0).await;
    }
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
                  create trigger refuse before update on job for each row execute function refuse();";
    sqlx::raw_sql(refuse).execute(&pool).await.unwrap();
    engine.settler.touched([7, 8].into_iter());
    pass(&engine, None).await.unwrap_err();
    sqlx::raw_sql("drop trigger refuse on job").execute(&pool).await.unwrap();
    pass(&engine, None).await.unwrap();
    for id in [7, 8] {
        assert_eq!(shown(&pool, id).await.state, JobState::Completed);
    }
    assert!(engine.settler.take_touched().is_empty());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_million_retries_are_not_removed_in_one_go(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, LEASE).await;
    let all = 5_000;
    job(&pool, 7, "running", all).await;
    let cancelled = jobs::cancel(&engine, BY, JobId(7)).await.unwrap();
    let at_once = 2 * store::flow::RETRIES_AT_ONCE;
    assert_eq!((cancelled.state, cancelled.counts.cancelled), (JobState::Cancelling, at_once));
    assert_eq!(cancelled.counts.pending, i64::from(all) - at_once, "each is counted, at every moment");
    pass(&engine, None).await.unwrap();
    let ended = shown(&pool, 7).await;
    assert_eq!((ended.state, ended.counts.cancelled, ended.counts.pending), (JobState::Cancelled, i64::from(all), 0));
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_ended_while_it_was_paused_is_over_when_it_is_resumed(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, LEASE).await;
    job(&pool, 7, "paused", 0).await;
    job(&pool, 8, "paused", 1).await;
    assert_eq!(jobs::resume(&engine, BY, JobId(7)).await.unwrap().state, JobState::Completed);
    assert_eq!(jobs::resume(&engine, BY, JobId(8)).await.unwrap().state, JobState::Running);
}

/// Jobs are ended many at a time; whose end is told to somebody, or lets another begin, is not lost among them.
#[sqlx::test(migrations = "../../migrations")]
async fn who_waits_for_one_of_many_jobs_hears_of_its_end(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, LEASE).await;
    // The seventh has a webhook; the ninth a follower.
    for id in [6, 7, 8, 9] {
        job(&pool, id, "running", 0).await;
    }
    let follower = "insert into job (job_id, team_id, key_id, lane, state, accepted, after_job, after_on)
                    values (10, 1, 'k', 'bulk', 'queued', 1, 9, 'end');
                    insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts, state)
                    values (10, 10, 1, 'bulk', 'e5', 2, 'k', 0, 1, 9, 5, 'held')";
    sqlx::raw_sql(follower).execute(&pool).await.unwrap();
    engine.settler.touched([6, 7, 8, 9].into_iter());
    pass(&engine, None).await.unwrap();
    for id in [6, 7, 8, 9] {
        assert_eq!(shown(&pool, id).await.state, JobState::Completed, "job {id}");
    }
    let told: Vec<i64> = sqlx::query_scalar("select job_id from webhook_outbox").fetch_all(&pool).await.unwrap();
    assert_eq!(told, [7]);
    let flow: String = sqlx::query_scalar("select state from flow where job_id = 10").fetch_one(&pool).await.unwrap();
    assert_eq!(flow, "ready", "it began in the transaction that ended the other");
}

/// Between its last answer and the finisher's look there is a moment in which a job can be cancelled. It lost nothing by it.
#[sqlx::test(migrations = "../../migrations")]
async fn a_job_that_was_cancelled_after_its_last_answer_is_completed(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, LEASE).await;
    for (id, left, state) in [(8, 0, JobState::Completed), (9, 3, JobState::Cancelled)] {
        job(&pool, id, "running", left).await;
        assert_eq!(jobs::cancel(&engine, BY, JobId(id)).await.unwrap().state, state, "{left} requests were left");
        assert_eq!(shown(&pool, id).await.counts.cancelled, i64::from(left));
    }
}
