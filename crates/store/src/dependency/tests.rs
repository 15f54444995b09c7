use sqlx::PgPool;

use super::*;

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

/// Others lock shares in the order of lanes: who has one and waits for a later one must not wait for somebody who has them the
/// other way round.
#[sqlx::test(migrations = "../../migrations")]
async fn shares_of_all_followers_are_locked_in_one_order(pool: PgPool) {
    run(
        &pool,
        "insert into team (name) values ('t');
         insert into job (job_id, team_id, key_id, lane, state, finished_at) values (1, 1, 'k', 'bulk', 'completed', now());
         insert into job (job_id, team_id, key_id, lane, state, after_job, after_on)
         values (2, 1, 'k', 'standard', 'queued', 1, 'end'), (3, 1, 'k', 'bulk', 'queued', 1, 'end');
         insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts, state)
         values (2, 2, 1, 'standard', 'r', 1, 'k', 0, 1, 1, 5, 'held'), (3, 3, 1, 'bulk', 'r', 1, 'k', 0, 1, 1, 5, 'held');
         insert into share (lane, team_id, weight, blocked_until)
         values ('bulk', 1, 1, 'infinity'), ('standard', 1, 1, 'infinity');",
    )
    .await;
    let mut other = pool.begin().await.unwrap();
    sqlx::raw_sql("set local lock_timeout = '3s'; select from share where lane = 'bulk' for update")
        .execute(&mut *other)
        .await
        .unwrap();
    let releasing = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut tx = pool.begin().await?;
            let followers = release(&mut tx, JobId(1)).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(followers.len())
        }
    });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    sqlx::raw_sql("select from share where lane = 'standard' for update").execute(&mut *other).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(releasing.await.unwrap().unwrap(), 2);
    let awake = "select count(*) from share where blocked_until = '-infinity'";
    assert_eq!(sqlx::query_scalar::<_, i64>(awake).fetch_one(&pool).await.unwrap(), 2);
}
