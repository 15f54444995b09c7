use sqlx::PgPool;

use super::*;

const LEASE: Duration = Duration::from_secs(60);

fn key(about: &str, threshold: i32, since: &str, until: Option<&str>) -> Key {
    let at = |text: &str| text.parse().unwrap();
    Key { kind: AlertKind::Budget, about: about.into(), threshold, since: at(since), until: until.map(at) }
}

/// What one replica does: the alert, and a delivery to each receiver.
async fn raise(pool: &PgPool, key: &Key, at: &str, is_silent: bool) -> bool {
    let mut tx = pool.begin().await.unwrap();
    lock(&mut tx).await.unwrap();
    let said = Said { title: "t".into(), text: "x".into(), fields: Vec::new() };
    let alert_id = Uuid::now_v7();
    let at = at.parse().unwrap();
    let new = NewAlert { alert_id, key, object: "b", team: None, said: &said, at, is_silent };
    let is_new = insert(&mut tx, &new).await.unwrap();
    if is_new && !is_silent {
        for receiver in ["a", "b"] {
            let delivery_id = Uuid::now_v7();
            send(&mut tx, NewDelivery { delivery_id, alert_id, receiver, payload: "{}" }).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    is_new
}

const NOON: &str = "2026-11-23T12:00:00Z";
const TODAY: &str = "2026-11-23T00:00:00Z";
const TOMORROW: &str = "2026-11-24T00:00:00Z";

#[sqlx::test(migrations = "../../migrations")]
async fn replicas_that_see_the_same_tell_it_once(pool: PgPool) {
    let key = key("1", 80, TODAY, Some(TOMORROW));
    let told = futures::future::join_all((0..8).map(|_| raise(&pool, &key, NOON, false))).await;
    assert_eq!(told.iter().filter(|told| **told).count(), 1);
    let mut conn = pool.acquire().await.unwrap();
    let shown = list(&mut conn, None, None, 10).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].threshold, shown[0].deliveries.len()), (Some(80), 2));
    for receiver in ["a", "b"] {
        assert_eq!(take(&mut conn, receiver, 10, LEASE).await.unwrap().len(), 1, "{receiver}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_told_is_told_anew_in_the_next_window_and_not_before(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let today = key("1", 80, TODAY, Some(TOMORROW));
    assert!(raise(&pool, &today, NOON, false).await);
    let tomorrow = key("1", 80, TOMORROW, Some("2026-11-25T00:00:00Z"));
    let (other, higher) = (key("2", 80, TODAY, None), key("1", 100, TODAY, Some(TOMORROW)));
    let keys = [today.clone(), other, higher, tomorrow.clone()];
    let at = |text: &str| text.parse().unwrap();
    assert_eq!(untold(&mut conn, &keys, at(NOON)).await.unwrap(), [1, 2]);
    assert_eq!(untold(&mut conn, &keys, at(TOMORROW)).await.unwrap(), [1, 2, 3]);
    assert!(!raise(&pool, &tomorrow, NOON, false).await, "one that rolls has another start all the time");
    assert!(raise(&pool, &tomorrow, TOMORROW, true).await);
    assert!(!raise(&pool, &today, TOMORROW, false).await);
    assert_eq!(list(&mut conn, None, None, 10).await.unwrap().len(), 1, "the silent one is not shown");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_delivery_is_taken_by_one_and_its_state_is_seen(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    assert!(raise(&pool, &key("1", 50, TODAY, None), NOON, false).await);
    let late = take(&mut conn, "a", 10, Duration::ZERO).await.unwrap().remove(0);
    let again = take(&mut conn, "a", 10, LEASE).await.unwrap().remove(0);
    assert!(take(&mut conn, "a", 10, LEASE).await.unwrap().is_empty());
    failed(&mut conn, &late, "too late to matter", None).await.unwrap();
    failed(&mut conn, &again, "503", Some(Duration::ZERO)).await.unwrap();
    let last = take(&mut conn, "a", 10, LEASE).await.unwrap().remove(0);
    assert_eq!(last.tries, 3);
    delivered(&mut conn, &last).await.unwrap();
    let other = take(&mut conn, "b", 10, LEASE).await.unwrap().remove(0);
    failed(&mut conn, &other, "410", None).await.unwrap();
    let shown = list(&mut conn, None, None, 10).await.unwrap().remove(0);
    let states: Vec<_> =
        shown.deliveries.iter().map(|d| (d.state.as_str(), d.tries, d.last_error.as_deref())).collect();
    assert_eq!(states, [("delivered", 3, None), ("given_up", 1, Some("410"))]);
    assert!(shown.deliveries.iter().all(|delivery| delivery.next_try_at.is_none()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn pages_go_back_in_time_and_what_counts_for_ever_is_kept(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    for about in ["1", "2", "3"] {
        let until = (about != "2").then_some(TOMORROW);
        assert!(raise(&pool, &key(about, 50, TODAY, until), NOON, false).await);
    }
    let first = list(&mut conn, None, None, 2).await.unwrap();
    let rest = list(&mut conn, None, Some(first[1].id), 2).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert_eq!(list(&mut conn, Some(rest[0].id), None, 2).await.unwrap(), rest);
    sqlx::query(
        "update alert set until = now() - interval '1 s', raised_at = now() - interval '2 s' where until is not null",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(prune(&mut conn, Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(prune(&mut conn, Duration::ZERO).await.unwrap(), 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn failed_jobs_are_those_of_which_nobody_was_told(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query("insert into team (name) values ('t'), ('u')").execute(&pool).await.unwrap();
    sqlx::query(
        "insert into job (job_id, team_id, key_id, lane, state, accepted, finished_at, failed)
         select n, 1 + n % 2, 'k', 'bulk', case n when 1 then 'running' else 'completed' end, 15,
                case n when 1 then null when 4 then now() - interval '2 days' else now() end, case n when 1 then 0 else n end
         from generate_series(1, 5) n",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("insert into job_tally (job_id, worker_id, failed) values (1, 1, 2), (1, 2, 4)")
        .execute(&pool)
        .await
        .unwrap();
    let of = async |conn: &mut PgConnection| -> Vec<(String, i64, i64)> {
        let jobs = failed_jobs(conn, 10).await.unwrap();
        jobs.into_iter().map(|job| (job.team, job.job_id.0, job.failed)).collect()
    };
    let expected = [("t", 2, 2), ("u", 5, 5), ("u", 3, 3), ("u", 1, 6)].map(|(team, job, n)| (team.to_owned(), job, n));
    assert_eq!(of(&mut conn).await, expected);
    let told = Key { kind: AlertKind::DeadLetters, ..key("5", 0, TODAY, None) };
    assert!(raise(&pool, &told, NOON, false).await);
    sqlx::query("update alert set team = 'u', raised_at = now()").execute(&pool).await.unwrap();
    assert_eq!(of(&mut conn).await, expected[..1], "a team is not told of each job by itself");
    sqlx::query("update alert set raised_at = now() - interval '11 minutes'").execute(&pool).await.unwrap();
    assert_eq!(of(&mut conn).await.len(), 3);
}
