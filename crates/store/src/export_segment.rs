//! The ledger's way into the lake. Waiting batches of one day are frozen into a segment; the segment's rows become one file;
//! the segment is marked published. Batches are updated, never rows.

use chrono::{DateTime, NaiveDate, Utc};
use domain::LedgerRow;
use futures::stream::BoxStream;
use sqlx::{Connection, PgConnection, PgPool, query, query_as, query_scalar};
use uuid::Uuid;

use crate::Result;

/// Batches of one day whose rows go into one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub segment_id: i64,
    pub usage_date: NaiveDate,
    pub rows: i64,
}

/// A segment whose file is in the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub segment_id: i64,
    pub rows: i64,
    pub content_hash: Option<String>,
}

/// The right to write to the lake. It holds a connection of its own, so that it ends with this value or with the process.
#[derive(Debug)]
pub struct LakeLock(PgConnection);

impl LakeLock {
    /// `None` while somebody else has it.
    pub async fn take(pool: &PgPool) -> Result<Option<Self>> {
        let mut conn = pool.acquire().await?.detach();
        let taken = query_scalar!(r#"select pg_try_advisory_lock(hashtext('tollway_lake')) as "taken!""#)
            .fetch_one(&mut conn)
            .await?;
        Ok(taken.then_some(Self(conn)))
    }

    /// Gives it back now; dropping it does so once the server notices.
    pub async fn release(mut self) -> Result<()> {
        // Closing alone would leave it taken for the moment that the server needs to notice.
        query!("select pg_advisory_unlock_all()").execute(&mut self.0).await?;
        self.0.close().await
    }
}

/// A day's rows that no segment has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub usage_date: NaiveDate,
    pub rows: i64,
}

/// Days with batches that no segment has yet, oldest first.
pub async fn waiting(conn: &mut PgConnection) -> Result<Vec<Waiting>> {
    query_as!(
        Waiting,
        r#"select usage_date, sum(rows) as "rows!" from ledger_batch
           where segment_id is null group by usage_date order by usage_date"#
    )
    .fetch_all(conn)
    .await
}

/// Makes a segment of the oldest waiting batches of a day: as many as have at most `most_rows` rows, or one larger one. `None`
/// when none waits. Must be in a transaction of its own: it holds the freezer's lock until that ends.
pub async fn freeze(conn: &mut PgConnection, usage_date: NaiveDate, most_rows: i64) -> Result<Option<Segment>> {
    query!("select pg_advisory_xact_lock(hashtext('tollway_freeze'))").execute(&mut *conn).await?;
    query_as!(
        Segment,
        r#"with waiting as (
               select batch_id, rows, sum(rows) over (order by batch_id) as up_to
               from (select batch_id, rows from ledger_batch
                     where usage_date = $1 and segment_id is null order by batch_id limit 20000) oldest
           ), picked as (
               select batch_id, rows from waiting where up_to <= $2 or up_to = rows
           ), made as (
               insert into segment (usage_date, rows)
               select $1, sum(rows) from picked having count(*) > 0
               returning segment_id, usage_date, rows
           ), frozen as (
               update ledger_batch b set segment_id = made.segment_id
               from made, picked
               where b.batch_id = picked.batch_id and b.usage_date = $1
           )
           select segment_id, usage_date, rows from made"#,
        usage_date,
        most_rows,
    )
    .fetch_optional(conn)
    .await
}

/// Frozen segments whose file is not known to be in the lake, oldest first.
pub async fn unpublished(conn: &mut PgConnection) -> Result<Vec<Segment>> {
    query_as!(
        Segment,
        "select segment_id, usage_date, rows from segment where published_at is null order by segment_id"
    )
    .fetch_all(conn)
    .await
}

/// The file is in the lake and in its manifest. Repeating it changes nothing.
pub async fn publish(conn: &mut PgConnection, segment_id: i64, content_hash: &str) -> Result<()> {
    query!(
        "update segment set published_at = now(), content_hash = $2 where segment_id = $1 and published_at is null",
        segment_id,
        content_hash,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Every segment has to be written again, into a lake that has none of them. Gives their number.
pub async fn unpublish_all(conn: &mut PgConnection) -> Result<u64> {
    let done = query!("update segment set published_at = null, content_hash = null where published_at is not null")
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

pub async fn any_published(conn: &mut PgConnection) -> Result<bool> {
    query_scalar!(r#"select exists (select 1 from segment where published_at is not null) as "any!""#)
        .fetch_one(conn)
        .await
}

pub async fn published_on(conn: &mut PgConnection, usage_date: NaiveDate) -> Result<Vec<Published>> {
    query_as!(
        Published,
        "select segment_id, rows, content_hash from segment
         where usage_date = $1 and published_at is not null order by segment_id",
        usage_date,
    )
    .fetch_all(conn)
    .await
}

/// Rows of the ledger that are not in the lake yet.
pub async fn rows_waiting(conn: &mut PgConnection) -> Result<i64> {
    query_scalar!(
        r#"select ((select coalesce(sum(rows), 0) from ledger_batch where segment_id is null)
                 + (select coalesce(sum(rows), 0) from segment where published_at is null))::bigint as "rows!""#
    )
    .fetch_one(conn)
    .await
}

/// Rows of the ledger that no published segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unexported {
    pub rows: i64,
    /// When the oldest of them was written.
    pub since: Option<DateTime<Utc>>,
}

/// Rows of the days `from..=to` that are not in the lake yet.
pub async fn unexported(conn: &mut PgConnection, from: NaiveDate, to: NaiveDate) -> Result<Unexported> {
    query_as!(
        Unexported,
        r#"select ((select coalesce(sum(rows), 0) from ledger_batch
                    where segment_id is null and usage_date between $1 and $2)
                 + (select coalesce(sum(rows), 0) from segment
                    where published_at is null and usage_date between $1 and $2))::bigint as "rows!",
                  (select min(l.recorded_at)
                   from (
                       (select usage_date, batch_id from ledger_batch
                        where segment_id is null and usage_date between $1 and $2 order by usage_date, batch_id limit 1)
                       union all
                       (select b.usage_date, b.batch_id from segment s join ledger_batch b on b.segment_id = s.segment_id
                        where s.published_at is null and s.usage_date between $1 and $2
                        order by s.segment_id, b.batch_id limit 1)
                   ) oldest
                   join ledger_entry l on l.usage_date = oldest.usage_date and l.batch_id = oldest.batch_id) as since"#,
        from,
        to,
    )
    .fetch_one(conn)
    .await
}

/// The first day up to `through` with rows that no published segment has.
pub async fn first_unfinished_day(conn: &mut PgConnection, through: NaiveDate) -> Result<Option<NaiveDate>> {
    query_scalar!(
        "select min(usage_date) from (
             select usage_date from ledger_batch where segment_id is null
             union all select usage_date from segment where published_at is null) waiting
         where usage_date <= $1",
        through,
    )
    .fetch_one(conn)
    .await
}

/// Days that have rows, oldest first. Hops from day to day in the primary key.
pub async fn ledger_days(conn: &mut PgConnection) -> Result<Vec<NaiveDate>> {
    query_scalar!(
        r#"with recursive day as (
               (select usage_date from ledger_entry order by usage_date limit 1)
               union all
               select (select l.usage_date from ledger_entry l where l.usage_date > day.usage_date order by l.usage_date limit 1)
               from day where day.usage_date is not null
           )
           select usage_date as "usage_date!" from day where usage_date is not null"#
    )
    .fetch_all(conn)
    .await
}

/// Rows of a day that are in no batch, and so would never be exported.
pub async fn rows_without_batch(conn: &mut PgConnection, usage_date: NaiveDate) -> Result<i64> {
    query_scalar!(
        r#"select count(*) as "rows!" from ledger_entry l where usage_date = $1 and not exists (
               select 1 from ledger_batch b where b.batch_id = l.batch_id and b.usage_date = l.usage_date)"#,
        usage_date,
    )
    .fetch_one(conn)
    .await
}

/// Lets the statements of this transaction run as long as a large day takes, beyond the pool's own limit.
pub async fn allow_long_statements(conn: &mut PgConnection) -> Result<()> {
    query!("set local statement_timeout = '30min'").execute(conn).await?;
    Ok(())
}

macro_rules! ledger_rows {
    ($which:literal, $($argument:expr),+) => {
        query_as!(
            LedgerRow,
            "select attempt_id, request_id, job_id, custom_id, provider_request_id, attempt_no, attempt_reason, fallback_from,
                 is_final, record_kind, corrects_attempt_id, requested_at, completed_at, recorded_at, usage_date, reserved_at,
                 team, environment, feature, customer, cost_center, key_id, tags_json, worker_id, provider, deployment,
                 billing_account, provider_project, region, model_requested, model_billed, service_tier, processing, lane,
                 input_uncached, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, output_text,
                 output_reasoning, output_audio, prompt_total, usage_source, queue_ms, ttft_ms, latency_ms, status, http_status,
                 error_class, billable, cache_hit, reserved, cost_input, cost_cache_read, cost_cache_write, cost_output,
                 cost_other, list_cost, contracted_cost, cost_if_uncached, cost_if_not_batch, price_version, price_status
             from ledger_entry l join ledger_context using (context_id) " + $which,
            $($argument),+
        )
    };
}

/// The rows of a segment, by attempt. Reads as fast as the stream is polled; the transaction stays open meanwhile.
pub fn rows_of<'c>(conn: &'c mut PgConnection, segment: &Segment) -> BoxStream<'c, Result<LedgerRow>> {
    // The index finds the pages between the first and the last batch; nearly all of their rows are the segment's.
    ledger_rows!(
        "where usage_date = $1
           and batch_id >= (select min(b.batch_id) from ledger_batch b where b.segment_id = $2 and b.usage_date = $1)
           and batch_id <= (select max(b.batch_id) from ledger_batch b where b.segment_id = $2 and b.usage_date = $1)
           and batch_id = any(array(
                   select b.batch_id from ledger_batch b where b.segment_id = $2 and b.usage_date = $1))
         order by attempt_id",
        segment.usage_date,
        segment.segment_id
    )
    .fetch(conn)
}

/// The next rows of a day, by attempt, among those of the given segments. Pages, so that no snapshot is held while a large day
/// is compared: rows are never changed, so they agree.
pub async fn page(
    conn: &mut PgConnection,
    usage_date: NaiveDate,
    segments: &[i64],
    after: Uuid,
    limit: i64,
) -> Result<Vec<LedgerRow>> {
    ledger_rows!(
        "where usage_date = $1 and attempt_id > $3 and exists (
             select 1 from ledger_batch b
             where b.batch_id = l.batch_id and b.usage_date = l.usage_date and b.segment_id = any($2))
         order by attempt_id limit $4",
        usage_date,
        segments,
        after,
        limit
    )
    .fetch_all(conn)
    .await
}
