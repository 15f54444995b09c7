//! Final results, read by keyset pages: one short statement each, bounded in rows and in bytes.

use sqlx::{PgConnection, query_as, query_scalar};

use crate::Result;

/// What a reader of results must know of the job.
#[derive(Debug, Clone)]
pub struct Source {
    pub state: String,
    pub accepted: i64,
    pub cancelled: i64,
    pub expired: i64,
    pub flow_ids: Vec<i64>,
    pub purged: bool,
}

pub async fn source(conn: &mut PgConnection, job_id: i64) -> Result<Option<Source>> {
    query_as!(
        Source,
        r#"select state, case when state = 'uploading' then 0 else accepted end as "accepted!", cancelled, expired, flow_ids,
                  purged_at is not null or coalesce(purge_at <= now(), false) as "purged!"
           from job where job_id = $1"#,
        job_id,
    )
    .fetch_optional(conn)
    .await
}

#[derive(Debug, Clone)]
pub struct ResultRow {
    pub line: i32,
    pub custom_id: String,
    pub ok: bool,
    pub status_code: Option<i32>,
    pub request_id: Option<String>,
    pub endpoint: i16,
    pub body: Option<String>,
    pub vectors: Option<Vec<u8>>,
    pub dims: Option<i32>,
    pub base64: bool,
    pub error_class: Option<String>,
    pub error_message: Option<String>,
}

impl ResultRow {
    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, String::len) + self.vectors.as_ref().map_or(0, Vec::len)
    }
}

/// Which lines of a job to read: `[from, until)`.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: i32,
    pub until: i32,
    pub failed_only: bool,
}

/// How much one page may hold. A single larger result still comes, alone.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    pub rows: i64,
    pub bytes: i64,
}

#[derive(Debug)]
pub struct Page {
    /// In line order.
    pub rows: Vec<ResultRow>,
    /// Where the next page starts; the span's end when all of it was read.
    pub next: i32,
}

/// The stored results of a span, as far as one page holds them. Sizes are summed without reading the values.
pub async fn page(conn: &mut PgConnection, job_id: i64, span: Span, size: PageSize) -> Result<Page> {
    let rows = query_as!(
        ResultRow,
        r#"with sized as (
               select line, coalesce(octet_length(body), 0) + coalesce(octet_length(vectors), 0) as bytes
               from result
               where job_id = $1 and line >= $2 and line < $3 and (ok = false or not $4)
               order by line limit $5
           ), kept as (
               select line from (select line, sum(bytes) over (order by line) - bytes as before from sized) s
               where before < $6::bigint
           )
           select line, custom_id, ok, status_code, request_id, endpoint, body, vectors, dims, base64, error_class, error_message
           from result
           where job_id = $1 and line >= $2 and line <= (select max(line) from kept) and (ok = false or not $4)
           order by line"#,
        job_id,
        span.from,
        span.until,
        span.failed_only,
        size.rows,
        size.bytes,
    )
    .fetch_all(conn)
    .await?;
    let bytes: usize = rows.iter().map(ResultRow::bytes).sum();
    let full = rows.len() as i64 >= size.rows || bytes as i64 >= size.bytes;
    let next = match rows.last() {
        Some(last) if full => last.line + 1,
        _ => span.until,
    };
    Ok(Page { rows, next })
}

/// The lines from `from` on that have their result, in order, at most `limit`.
pub async fn lines(conn: &mut PgConnection, job_id: i64, from: i32, limit: i64) -> Result<Vec<i32>> {
    query_scalar!(
        "select line from result where job_id = $1 and line >= $2 order by line limit $3",
        job_id,
        from,
        limit
    )
    .fetch_all(conn)
    .await
}

/// How many lines of `[from, until)` have a result, and how many of these have vectors. The vectors themselves are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finished {
    pub lines: i64,
    pub with_vectors: i64,
}

pub async fn count(conn: &mut PgConnection, job_id: i64, from: i32, until: i32) -> Result<Finished> {
    query_as!(
        Finished,
        r#"select count(*) as "lines!", count(vectors) as "with_vectors!"
           from result where job_id = $1 and line >= $2 and line < $3"#,
        job_id,
        from,
        until,
    )
    .fetch_one(conn)
    .await
}

/// A request that ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub line: i32,
    pub custom_id: String,
}

/// The requests at `[from_pos, from_pos + count)` of a flow that have no result, in order. All of them, of a job that ended,
/// were cancelled or expired.
pub async fn unfinished(
    conn: &mut PgConnection,
    job_id: i64,
    flow_id: i64,
    from_pos: i32,
    count: i32,
) -> Result<Vec<Unfinished>> {
    query_as!(
        Unfinished,
        // The limit keeps it one index look-up an item: without statistics a plain anti-join may read all results of the job.
        "select i.line, i.custom_id from item i
         left join lateral (select true as found from result r where r.job_id = $1 and r.line = i.line limit 1) r on true
         where i.flow_id = $2 and i.pos >= $3 and i.pos < $3 + $4 and r.found is null
         order by i.pos",
        job_id,
        flow_id,
        from_pos,
        count,
    )
    .fetch_all(conn)
    .await
}

/// The number of items of a flow; 0 when they were purged.
pub async fn flow_items(conn: &mut PgConnection, flow_id: i64) -> Result<i32> {
    let last = query_scalar!("select max(pos) from item where flow_id = $1", flow_id).fetch_one(conn).await?;
    Ok(last.map_or(0, |last| last + 1))
}

/// The first position in `[low, high]` whose line is `line` or later, `high` when there is none; by halving, for reading up to
/// it could take a million items. Inside a flow lines rise with the position.
pub async fn first_at(conn: &mut PgConnection, flow_id: i64, (low, high): (i32, i32), line: i32) -> Result<i32> {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        match line_at(&mut *conn, flow_id, middle).await? {
            Some(found) if found < line => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The line of the request at a flow's `pos`.
async fn line_at(conn: &mut PgConnection, flow_id: i64, pos: i32) -> Result<Option<i32>> {
    query_scalar!("select line from item where flow_id = $1 and pos = $2", flow_id, pos).fetch_optional(conn).await
}

#[cfg(test)]
mod tests;
