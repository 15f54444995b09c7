//! The order in which a claim comes to teams: by the slot-time they used, against a real PostgreSQL.

use sqlx::{Acquire, PgConnection, PgPool, query, query_scalar};
use store::claim::{self, ShareRow, Verdicts};

fn bulk() -> Vec<String> {
    vec!["bulk".to_owned()]
}

/// Teams with something to run, at these levels; gives their ids.
async fn teams(conn: &mut PgConnection, levels: &[i64]) -> Vec<i64> {
    let mut ids = Vec::new();
    for (n, level) in levels.iter().enumerate() {
        let id: i64 = query_scalar("insert into team (name) values ($1) returning team_id")
            .bind(format!("t{n}"))
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        query("insert into share (lane, team_id, level, blocked_until) values ('bulk', $1, $2, now())")
            .bind(id)
            .bind(level)
            .execute(&mut *conn)
            .await
            .unwrap();
        ids.push(id);
    }
    ids
}

/// What a claim leaves behind that put these at these levels; `rests`: they have nothing left to run.
async fn leave(conn: &mut PgConnection, shares: &[ShareRow], level: i64, rests: bool) {
    let mut verdicts = Verdicts::default();
    for share in shares {
        verdicts.share_lanes.push(share.lane.clone());
        verdicts.share_teams.push(share.team_id);
        verdicts.share_levels.push(level);
        verdicts.share_costs.push(42);
        verdicts.share_blocked_until.push(None);
        verdicts.share_asleep.push(rests);
    }
    claim::grant(conn, &verdicts).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn who_used_least_comes_first(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let ids = teams(&mut conn, &[300, 100, 200]).await;
    let mut tx = conn.begin().await.unwrap();
    let shares = claim::lock_shares(&mut tx, &bulk(), 2).await.unwrap();
    assert_eq!(shares.iter().map(|s| s.team_id).collect::<Vec<_>>(), [ids[1], ids[2]]);
    assert!(shares.iter().all(|share| !share.woken && share.cost == 0));
    leave(&mut tx, &shares[..1], 250, false).await;
    tx.commit().await.unwrap();
    let shares = claim::lock_shares(&mut conn, &bulk(), 2).await.unwrap();
    assert_eq!(
        shares.iter().map(|s| (s.team_id, s.level, s.cost)).collect::<Vec<_>>(),
        [(ids[2], 200, 0), (ids[1], 250, 42)]
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn who_comes_back_stands_where_the_others_do(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let ids = teams(&mut conn, &[10, 700, 900]).await;
    let first = claim::lock_shares(&mut conn, &bulk(), 1).await.unwrap();
    leave(&mut conn, &first, 20, true).await;
    let awake = claim::lock_shares(&mut conn, &bulk(), 8).await.unwrap();
    assert_eq!(awake.iter().map(|s| s.team_id).collect::<Vec<_>>(), ids[1..], "one rests");

    store::share::wake(&mut conn, &vec!["bulk".to_owned(); 3], &ids).await.unwrap();
    let shares = claim::lock_shares(&mut conn, &bulk(), 8).await.unwrap();
    let woken: Vec<_> = shares.iter().map(|s| (s.team_id, s.level, s.woken)).collect();
    assert_eq!(woken, [(ids[0], 20, true), (ids[1], 700, false), (ids[2], 900, false)], "who was awake was left alone");
    assert_eq!(claim::join_times(&mut conn, &bulk()).await.unwrap()["bulk"], 700);

    // When nobody competes, it is behind nobody.
    leave(&mut conn, &shares, 1_000, true).await;
    store::share::wake(&mut conn, &bulk(), &ids[..1]).await.unwrap();
    assert_eq!(claim::join_times(&mut conn, &bulk()).await.unwrap()["bulk"], 1_000);
}
