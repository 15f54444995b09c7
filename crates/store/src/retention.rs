//! What is kept, and for how long. Bodies and results go by dropping whole partitions; the rows of single jobs only when
//! somebody asks for that job to be purged.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, query, query_scalar};

use crate::Result;

/// A transaction for [`make_partitions`] and [`drop_day`], which lock whole tables. While they wait for a long reader, everything
/// else waits behind them: so they wait for a moment only, and fail. Made a week ahead, partitions can be made another day.
pub async fn begin_ddl(conn: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    let mut tx = conn.begin().await?;
    query!("set local lock_timeout = '500ms'").execute(&mut *tx).await?;
    Ok(tx)
}

/// Partitions from yesterday to a week ahead. At migration, at every start and daily.
pub async fn make_partitions(conn: &mut PgConnection) -> Result<i32> {
    query_scalar!(r#"select tollway_make_partitions((now() at time zone 'UTC')::date - 1, 9) as "made!""#)
        .fetch_one(conn)
        .await
}

/// Days whose partitions of `item` and `result` no job needs any more: all jobs of the day ended, and are past their purge time.
pub async fn droppable_days(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<Vec<NaiveDate>> {
    let days = query_scalar!(
        r#"select to_date(right(c.relname, 8), 'YYYYMMDD') as "day!"
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'item'::regclass and to_date(right(c.relname, 8), 'YYYYMMDD') < ($1::timestamptz at time zone 'UTC')::date - 1
           order by 1"#,
        now,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut droppable = Vec::new();
    for day in days {
        let low = domain::ids::time_id_floor(day.and_time(chrono::NaiveTime::MIN).and_utc());
        let high = domain::ids::time_id_floor((day + chrono::Days::new(1)).and_time(chrono::NaiveTime::MIN).and_utc());
        // A flow's id is made after its job's, so a job of the evening can have items in the next day's partition.
        let needed = query_scalar!(
            r#"select exists (
                   select 1 from job
                   where job_id >= $1 - (86400000::bigint << 22) and job_id < $2
                     and (finished_at is null or (purge_at > $3 and purged_at is null))
               ) as "needed!""#,
            low,
            high,
            now,
        )
        .fetch_one(&mut *conn)
        .await?;
        if !needed {
            droppable.push(day);
        }
    }
    Ok(droppable)
}

/// Drops one day's bodies and results.
pub async fn drop_day(conn: &mut PgConnection, day: NaiveDate) -> Result<()> {
    let name = day.format("%Y%m%d");
    // The name is a date that was parsed as one; a table's name cannot be a parameter.
    sqlx::query(AssertSqlSafe(format!("drop table if exists item_p{name}, result_p{name}"))).execute(conn).await?;
    Ok(())
}

/// Deletes up to `most` bodies and results of one job; gives how many rows went. Call until it gives 0.
pub async fn purge_some(conn: &mut PgConnection, job_id: i64, most: i64) -> Result<u64> {
    let items = query!(
        "delete from item i using (
             select flow_id, pos from item
             where flow_id = any (select unnest(flow_ids) from job where job_id = $1) limit $2
         ) d
         where i.flow_id = d.flow_id and i.pos = d.pos",
        job_id,
        most,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    let results = query!(
        "delete from result r using (select job_id, line from result where job_id = $1 limit $2) d
         where r.job_id = d.job_id and r.line = d.line",
        job_id,
        most,
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(items + results)
}

/// False when it was marked before.
pub async fn mark_purged(conn: &mut PgConnection, job_id: i64) -> Result<bool> {
    let marked = query!(
        "update job set purged_at = now() where job_id = $1 and finished_at is not null and purged_at is null",
        job_id
    )
    .execute(conn)
    .await?;
    Ok(marked.rows_affected() > 0)
}

/// The small tables that turn over with every request; autovacuum alone lets them bloat under load.
pub const HOT_TABLES: [&str; 10] =
    ["flow", "share", "lease", "retry", "job_tally", "intent", "limit_use", "upload_hold", "team_usage", "budget_use"];

/// Vacuums one hot table. Outside any transaction.
pub async fn vacuum(conn: &mut PgConnection, table: &'static str) -> Result<()> {
    sqlx::query(AssertSqlSafe(format!("vacuum (skip_locked, index_cleanup on, truncate off) {table}")))
        .execute(conn)
        .await?;
    Ok(())
}

/// Tables of the queue that have more than doubled since their statistics were made. A connection keeps its plans: those made
/// while a table was all but empty read it from end to end for as long as nobody says that it has grown.
pub async fn outgrown_tables(conn: &mut PgConnection) -> Result<Vec<String>> {
    let hot: Vec<String> = HOT_TABLES.iter().map(|table| (*table).to_owned()).collect();
    query_scalar!(
        r#"select c.relname::text as "table!" from pg_class c
           where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
             and (c.relname = any($1) or c.relname = 'job' or c.relname ~ '^(item|result)_p[0-9]+$')
             and pg_relation_size(c.oid) > 2 * greatest(c.relpages, 8) * current_setting('block_size')::bigint"#,
        &hot,
    )
    .fetch_all(conn)
    .await
}

/// Makes a table's statistics anew, and with that all plans that were made by the old ones, on all connections. Waits for nobody:
/// where the table is being vacuumed, that does the same.
pub async fn analyze(conn: &mut PgConnection, table: &str) -> Result<()> {
    sqlx::query(AssertSqlSafe(format!("analyze (skip_locked) {table}"))).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
