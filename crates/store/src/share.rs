//! A team's place in a lane.

use sqlx::{PgConnection, query};

use crate::Result;

/// Makes the teams' shares of a lane visible to claims again. In the transaction that made work for them: a claim that
/// looked before it commits would otherwise put them to sleep for good.
pub async fn wake(conn: &mut PgConnection, lanes: &[String], team_ids: &[i64]) -> Result<()> {
    query!(
        "insert into share (lane, team_id, weight, blocked_until)
         select w.lane, w.team_id, t.weight, '-infinity'
         from (select distinct lane, team_id from unnest($1::text[], $2::bigint[]) as u(lane, team_id)) w
         join team t on t.team_id = w.team_id
         -- One order for all writers, so that two of them cannot deadlock.
         order by w.lane, w.team_id
         on conflict (lane, team_id) do update set blocked_until = '-infinity', weight = excluded.weight
         -- One that is awake is left alone: a claim may hold it.
         where share.blocked_until > now() or share.weight <> excluded.weight",
        lanes,
        team_ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}
