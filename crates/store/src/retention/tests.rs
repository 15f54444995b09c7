use chrono::TimeDelta;
use sqlx::PgPool;

use super::*;

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

/// A job of an old day, past its end, with bodies and results in that day's partitions.
async fn old_job(pool: &PgPool, day: NaiveDate) -> i64 {
    let job = domain::ids::time_id_floor(day.and_time(chrono::NaiveTime::MIN).and_utc()) + 7;
    sqlx::query("select tollway_make_partitions($1, 1)").bind(day).execute(pool).await.unwrap();
    run(pool, "insert into team (name) values ('t')").await;
    sqlx::query(
        "insert into job (job_id, team_id, key_id, lane, state, finished_at, purge_at, flow_ids)
         values ($1, 1, 'k', 'bulk', 'completed', $2, $2 + interval '30 days', array[$1 + 1])",
    )
    .bind(job)
    .bind(day.and_time(chrono::NaiveTime::MIN).and_utc())
    .execute(pool)
    .await
    .unwrap();
    job
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_day_goes_once_all_its_jobs_are_past_their_retention(pool: PgPool) {
    let day: NaiveDate = "2026-01-05".parse().unwrap();
    let job = old_job(&pool, day).await;
    let mut conn = pool.acquire().await.unwrap();
    let at = |days| day.and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::days(days);
    assert_eq!(droppable_days(&mut conn, at(29)).await.unwrap(), [], "its retention is not over");
    sqlx::query("update job set state = 'running', finished_at = null where job_id = $1")
        .bind(job)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(droppable_days(&mut conn, at(31)).await.unwrap(), [], "it has not ended");
    sqlx::query("update job set state = 'completed', finished_at = purge_at where job_id = $1")
        .bind(job)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(droppable_days(&mut conn, at(31)).await.unwrap(), [day]);

    let mut tx = begin_ddl(&mut conn).await.unwrap();
    drop_day(&mut tx, day).await.unwrap();
    tx.commit().await.unwrap();
    let gone = "select to_regclass('item_p20260105') is null and to_regclass('result_p20260105') is null";
    assert!(sqlx::query_scalar::<_, bool>(gone).fetch_one(&pool).await.unwrap());
    assert_eq!(droppable_days(&mut conn, at(31)).await.unwrap(), []);
    let source = crate::result::source(&mut conn, job).await.unwrap().unwrap();
    assert!(source.purged, "readers are told that nothing is there any more, not that there was nothing");
}

/// A drop that waited behind a long reader would make everything else wait behind itself.
#[sqlx::test(migrations = "../../migrations")]
async fn a_drop_gives_way_to_a_long_reader(pool: PgPool) {
    let day: NaiveDate = "2026-01-05".parse().unwrap();
    old_job(&pool, day).await;
    let mut reader = pool.begin().await.unwrap();
    sqlx::query_scalar::<_, i64>("select count(*) from item").fetch_one(&mut *reader).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = begin_ddl(&mut conn).await.unwrap();
    let refused = drop_day(&mut tx, day).await.unwrap_err();
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("55P03"), "{refused}");
}
