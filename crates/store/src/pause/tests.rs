use chrono::TimeDelta;
use sqlx::PgPool;

use super::*;

fn hold(reason: PauseReason, part_id: i64, at: DateTime<Utc>) -> NewPause<'static> {
    NewPause { job: JobId(7), reason, part_id, detail: "why", needs: 5, at }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_approved_does_not_hold_again_before_its_time(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
    let guard = hold(PauseReason::Guard, 3, now);
    assert_eq!(put(&mut conn, guard).await.unwrap(), PauseOutcome::New);
    assert_eq!(put(&mut conn, guard).await.unwrap(), PauseOutcome::Before, "another replica saw it too");
    let until = now + TimeDelta::hours(1);
    lift(&mut conn, JobId(7), PauseReason::Guard, 3, until).await.unwrap();
    assert_eq!(put(&mut conn, guard).await.unwrap(), PauseOutcome::Lifted(until));
    assert!(!remove(&mut conn, JobId(7), PauseReason::Guard, 3).await.unwrap(), "it does not hold");
    assert_eq!(put(&mut conn, hold(PauseReason::Guard, 4, now)).await.unwrap(), PauseOutcome::New, "another guard");
    assert_eq!(
        put(&mut conn, hold(PauseReason::Guard, 3, until)).await.unwrap(),
        PauseOutcome::New,
        "the time is over"
    );
    assert!(remove(&mut conn, JobId(7), PauseReason::Guard, 3).await.unwrap());
    let left: Vec<i64> = of_job(&mut conn, JobId(7)).await.unwrap().into_iter().map(|row| row.part_id).collect();
    assert_eq!(left, [4]);
    // There is no such job any more.
    assert_eq!(forget(&mut conn, 10).await.unwrap(), 1);
}
