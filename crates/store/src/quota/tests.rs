use std::sync::Arc;

use sqlx::PgPool;

use super::*;

const DEFAULT: Quota = Quota { requests: 100, bytes: 10_000 };

/// A team, and jobs of it in state `uploading`.
async fn uploads(pool: &PgPool, jobs: std::ops::Range<i64>) {
    sqlx::query("insert into team (name) values ('t') on conflict do nothing").execute(pool).await.unwrap();
    for job in jobs {
        sqlx::query(
            "insert into job (job_id, team_id, key_id, lane, state, upload_worker) values ($1, 1, 'k', 'bulk', 'uploading', 5)",
        )
        .bind(job)
        .execute(pool)
        .await
        .unwrap();
    }
}

/// However long the last count took.
async fn ask(pool: &PgPool, job_id: i64, requests: i64, bytes: i64) -> Option<Over> {
    sqlx::query("update team_usage set count_took = '0'").execute(pool).await.unwrap();
    reserve_now(pool, Want { team_id: 1, job_id, requests, bytes }, DEFAULT).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_full_quota_says_what_is_used_and_what_was_asked(pool: PgPool) {
    uploads(&pool, 1..4).await;
    assert_eq!(ask(&pool, 1, 60, 10).await, None);
    assert_eq!(ask(&pool, 2, 30, 10).await, None);
    let over = Over { kind: "pending_requests", cap: 100, used: 60, asked: 50 };
    assert_eq!(ask(&pool, 2, 20, 10).await, Some(over));
    assert_eq!(ask(&pool, 3, 10, 9_000).await, None);
    let over = Over { kind: "pending_bytes", cap: 10_000, used: 9_010, asked: 1_010 };
    assert_eq!(ask(&pool, 2, 0, 1_000).await, Some(over));
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_ends_gives_back(pool: PgPool) {
    uploads(&pool, 1..3).await;
    assert_eq!(ask(&pool, 1, 100, 10).await, None);
    // Its upload is finished: it counts itself now, once.
    let finished = "with gone as (delete from upload_hold where job_id = 1)
                    update job set state = 'queued', upload_worker = null, accepted = 100, bytes = 10 where job_id = 1";
    sqlx::query(finished).execute(&pool).await.unwrap();
    assert_eq!(ask(&pool, 2, 1, 1).await, Some(Over { kind: "pending_requests", cap: 100, used: 100, asked: 1 }));
    sqlx::query("update job set state = 'completed', finished_at = now() where job_id = 1")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(ask(&pool, 2, 100, 1).await, None);
    // An upload that was given up and removed.
    sqlx::query("delete from job where job_id = 2").execute(&pool).await.unwrap();
    uploads(&pool, 3..4).await;
    assert_eq!(ask(&pool, 3, 100, 1).await, None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_count_that_took_long_is_not_repeated_soon(pool: PgPool) {
    uploads(&pool, 1..3).await;
    assert_eq!(ask(&pool, 1, 100, 10).await, None);
    let given_up = "with gone as (delete from upload_hold where job_id = 1) delete from job where job_id = 1";
    sqlx::query(given_up).execute(&pool).await.unwrap();
    sqlx::query("update team_usage set counted_at = clock_timestamp(), count_took = '1 min'")
        .execute(&pool)
        .await
        .unwrap();
    let want = Want { team_id: 1, job_id: 2, requests: 100, bytes: 1 };
    let over = Over { kind: "pending_requests", cap: 100, used: 100, asked: 100 };
    assert_eq!(reserve_now(&pool, want, DEFAULT).await.unwrap(), Some(over));
    sqlx::query("update team_usage set counted_at = counted_at - interval '20 min'").execute(&pool).await.unwrap();
    assert_eq!(reserve_now(&pool, want, DEFAULT).await.unwrap(), None);
}

/// What is on disk counts for as long as it is there, so that no team fills the disk by one job after another.
#[sqlx::test(migrations = "../../migrations")]
async fn bytes_of_ended_jobs_count_until_they_are_gone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query("insert into team (name) values ('t')").execute(&pool).await.unwrap();
    let days = ["2026-01-05", "2026-01-06", "2026-01-07"].map(|day| day.parse::<chrono::NaiveDate>().unwrap());
    for (day, bytes) in days.iter().zip([1_000i64, 2_000, 4_000]) {
        sqlx::query("select tollway_make_partitions($1, 1)").bind(day).execute(&pool).await.unwrap();
        // Its flow was made the next moment, on the day itself.
        let midnight = domain::ids::time_id_floor(day.and_time(chrono::NaiveTime::MIN).and_utc());
        sqlx::query(
            "insert into job (job_id, team_id, key_id, lane, state, finished_at, accepted, bytes, flow_ids)
             values ($1, 1, 'k', 'bulk', 'completed', now(), 50, $2, array[$3])",
        )
        .bind(midnight - 1)
        .bind(bytes)
        .bind(midnight + 1)
        .execute(&pool)
        .await
        .unwrap();
    }
    let on_disk = async |conn: &mut PgConnection| {
        let Usage { requests, bytes } = usage(conn, 1).await.unwrap();
        assert_eq!(requests, 0, "they have ended");
        bytes
    };
    assert_eq!(on_disk(&mut conn).await, 7_000);
    uploads(&pool, 1..2).await;
    let over = Over { kind: "pending_bytes", cap: 10_000, used: 7_000, asked: 3_001 };
    assert_eq!(ask(&pool, 1, 1, 3_001).await, Some(over));
    // Days go in any order: the first waits for a job of it that has not ended.
    crate::retention::drop_day(&mut conn, days[1]).await.unwrap();
    assert_eq!(on_disk(&mut conn).await, 5_000);
    sqlx::query("update job set purged_at = now() where bytes = 4000").execute(&pool).await.unwrap();
    assert_eq!(on_disk(&mut conn).await, 1_000);
    crate::retention::drop_day(&mut conn, days[0]).await.unwrap();
    assert_eq!(on_disk(&mut conn).await, 0);
    assert_eq!(ask(&pool, 1, 1, 10_000).await, None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_teams_own_quota_goes_before_the_default(pool: PgPool) {
    uploads(&pool, 1..2).await;
    crate::limit::set(&mut pool.acquire().await.unwrap(), "team:1", "pending_requests", 5).await.unwrap();
    assert_eq!(ask(&pool, 1, 6, 1).await, Some(Over { kind: "pending_requests", cap: 5, used: 0, asked: 6 }));
    assert_eq!(ask(&pool, 1, 5, 1).await, None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn uploads_at_once_do_not_pass_it_together(pool: PgPool) {
    uploads(&pool, 0..20).await;
    let pool = Arc::new(pool);
    let tries = (0..20).map(|job| {
        let pool = Arc::clone(&pool);
        async move {
            let mut held = 0;
            for _ in 0..4 {
                held += i64::from(ask(&pool, job, 3, 1).await.is_none()) * 3;
            }
            held
        }
    });
    let held: i64 = futures::future::join_all(tries).await.into_iter().sum();
    // 80 were tried; 33 fit.
    assert_eq!(held, 99);
    assert_eq!(usage(&mut pool.acquire().await.unwrap(), 1).await.unwrap(), Usage { requests: 99, bytes: 33 });
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_job_that_is_gone_can_hold_nothing(pool: PgPool) {
    uploads(&pool, 1..2).await;
    assert!(reserve_now(&pool, Want { team_id: 1, job_id: 9, requests: 1, bytes: 1 }, DEFAULT).await.is_err());
}
