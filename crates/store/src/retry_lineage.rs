//! Requests of a job that ended, copied into a new one. Their bodies never leave the database.

use domain::{JobState, RetryFilter};
use sqlx::{PgConnection, query, query_as};

use crate::{
    Result,
    ingest::{Upload, count_in},
    job::Scope,
    result::{PageSize, ResultRow},
};

/// What a retry takes over from its job, and what decides whether there can be one.
#[derive(Debug, Clone)]
pub struct Original {
    pub state: String,
    pub team_id: i64,
    pub lane: String,
    pub name: Option<String>,
    pub tags: serde_json::Value,
    pub priority: i16,
    pub max_attempts: i16,
    pub webhook_url: Option<String>,
    pub accepted: i64,
    pub failed: i64,
    /// Cancelled or expired.
    pub unfinished: i64,
    pub flow_ids: Vec<i64>,
    /// Of each flow; `None` for a job that an earlier version made.
    pub routes: Option<Vec<String>>,
    pub endpoints: Option<Vec<i16>>,
    pub purged: bool,
}

impl Original {
    pub fn state(&self) -> Option<JobState> {
        JobState::from_word(&self.state)
    }
}

pub async fn original(conn: &mut PgConnection, scope: Scope, job_id: i64) -> Result<Option<Original>> {
    query_as!(
        Original,
        r#"select state, team_id, lane, name, tags, priority, max_attempts, webhook_url, accepted,
                  (failed + coalesce((select sum(t.failed) from job_tally t where t.job_id = j.job_id), 0))::bigint as "failed!",
                  cancelled + expired as "unfinished!", flow_ids, routes, endpoints,
                  purged_at is not null or coalesce(purge_at <= now(), false) as "purged!"
           from job j where job_id = $1 and ($2::bigint is null or team_id = $2)"#,
        job_id,
        scope.team(),
    )
    .fetch_optional(conn)
    .await
}

/// A request to be copied.
#[derive(Debug, Clone)]
pub struct Pick {
    pub pos: i32,
    pub line: i32,
    pub est_in: i32,
    pub max_out: Option<i32>,
    /// Of its body.
    pub bytes: i32,
}

/// The requests at `[from_pos, until_pos)` of a flow that are to be tried again.
pub async fn pick(
    conn: &mut PgConnection,
    job_id: i64,
    flow_id: i64,
    (from_pos, until_pos): (i32, i32),
    filter: &RetryFilter,
) -> Result<Vec<Pick>> {
    let errors = filter.failed_errors();
    query_as!(
        Pick,
        // The limit keeps it one index look-up an item, whatever the statistics say.
        r#"select i.pos, i.line, i.est_in, i.max_out, octet_length(i.body) as "bytes!"
           from item i
           left join lateral (
               select ok, coalesce(error_class, 'unknown') as error, status_code, deployment from result r
               where r.job_id = $1 and r.line = i.line limit 1
           ) r on true
           where i.flow_id = $2 and i.pos >= $3 and i.pos < $4
             and case when r.ok is null then $5
                      when r.ok then false
                      else ($6::text[] is null or r.error = any($6))
                       and (cardinality($7::integer[]) = 0 or r.status_code = any($7))
                       and (cardinality($8::text[]) = 0 or r.deployment = any($8)) end
           order by i.pos"#,
        job_id,
        flow_id,
        from_pos,
        until_pos,
        filter.takes_unfinished(),
        errors.as_deref(),
        &filter.statuses,
        &filter.deployments,
    )
    .fetch_all(conn)
    .await
}

/// Where requests come from and where they go, one place in each list for each of them.
#[derive(Debug, Default)]
pub struct Copies {
    pub from_flows: Vec<i64>,
    pub from_pos: Vec<i32>,
    pub from_lines: Vec<i32>,
    pub flows: Vec<i64>,
    pub pos: Vec<i32>,
    pub lines: Vec<i32>,
    /// Of all their bodies.
    pub bytes: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    All,
    /// Some bodies are no longer there; to be rolled back.
    Purged,
    /// The new job was given up in this worker's place.
    Lost,
}

/// Adds copies to a job in state `uploading`, as [`crate::ingest::append`] adds items; inside the same kind of transaction.
pub async fn copy(
    conn: &mut PgConnection,
    upload: Upload,
    of_job: i64,
    flow_ids: &[i64],
    copies: &Copies,
) -> Result<Copied> {
    let n = copies.lines.len() as u64;
    if !count_in(conn, upload, flow_ids, n as i64, copies.bytes).await? {
        return Ok(Copied::Lost);
    }
    let copied = query!(
        "insert into item (flow_id, pos, line, est_in, max_out, custom_id, body)
         select c.flow_id, c.pos, c.line, i.est_in, i.max_out, i.custom_id, i.body
         from unnest($1::bigint[], $2::integer[], $3::bigint[], $4::integer[], $5::integer[])
                  as c(from_flow, from_pos, flow_id, pos, line)
         cross join lateral (select * from item where item.flow_id = c.from_flow and item.pos = c.from_pos limit 1) i",
        &copies.from_flows,
        &copies.from_pos,
        &copies.flows,
        &copies.pos,
        &copies.lines,
    )
    .execute(&mut *conn)
    .await?;
    if copied.rows_affected() != n {
        return Ok(Copied::Purged);
    }
    query!(
        "insert into retried (of_job, of_line, job_id, line)
         select $1, c.of_line, $2, c.line from unnest($3::integer[], $4::integer[]) as c(of_line, line)",
        of_job,
        upload.job_id,
        &copies.from_lines,
        &copies.lines,
    )
    .execute(conn)
    .await?;
    Ok(Copied::All)
}

/// Where the result of a line's retry is.
#[derive(Debug, Clone, Copy)]
pub struct Replacement {
    /// Of the job that was retried first.
    pub of_line: i32,
    pub job_id: i64,
    pub line: i32,
    pub bytes: i64,
}

/// What came of retries, and of retries of retries, of the lines `[from, until)`: one of each line, a success before a failure
/// and the newest before older ones. In line order.
pub async fn replacements(conn: &mut PgConnection, job_id: i64, from: i32, until: i32) -> Result<Vec<Replacement>> {
    query_as!(
        Replacement,
        r#"with recursive tried as (
               select of_line as root, job_id, line from retried
               where of_job = $1 and of_line >= $2 and of_line < $3
               union all
               select t.root, m.job_id, m.line
               from tried t join retried m on m.of_job = t.job_id and m.of_line = t.line
           )
           select distinct on (t.root) t.root as "of_line!", t.job_id as "job_id!", t.line as "line!",
                  r.bytes as "bytes!"
           from tried t
           cross join lateral (
               select ok, coalesce(octet_length(body), 0)::bigint + coalesce(octet_length(vectors), 0) as bytes
               from result where result.job_id = t.job_id and result.line = t.line limit 1
           ) r
           order by t.root, r.ok desc, t.job_id desc"#,
        job_id,
        from,
        until,
    )
    .fetch_all(conn)
    .await
}

/// The first of them, as many as a page holds; each with the line of the job that was retried.
pub async fn results(conn: &mut PgConnection, of: &[Replacement], size: PageSize) -> Result<Vec<ResultRow>> {
    let mut bytes = 0;
    let fits = |one: &&Replacement| {
        let fits = bytes == 0 || bytes + one.bytes <= size.bytes;
        bytes += one.bytes.max(1);
        fits
    };
    let page: Vec<&Replacement> = of.iter().take(usize::try_from(size.rows).unwrap_or(1)).take_while(fits).collect();
    let of_lines: Vec<i32> = page.iter().map(|one| one.of_line).collect();
    let jobs: Vec<i64> = page.iter().map(|one| one.job_id).collect();
    let lines: Vec<i32> = page.iter().map(|one| one.line).collect();
    query_as!(
        ResultRow,
        r#"select w.of_line as "line!", r.custom_id as "custom_id!", r.ok as "ok!", r.status_code, r.request_id,
                  r.endpoint as "endpoint!", r.body, r.vectors, r.dims, r.base64 as "base64!", r.error_class, r.error_message
           from unnest($1::integer[], $2::bigint[], $3::integer[]) as w(of_line, job_id, line)
           cross join lateral (select * from result where result.job_id = w.job_id and result.line = w.line limit 1) r
           order by w.of_line"#,
        &of_lines,
        &jobs,
        &lines,
    )
    .fetch_all(conn)
    .await
}

/// Forgets the lines of jobs whose results are purged, at most `most`; gives how many.
pub async fn prune(conn: &mut PgConnection, most: i64) -> Result<u64> {
    let gone = query!(
        "delete from retried r using (
             select m.of_job, m.of_line, m.job_id from retried m join job j on j.job_id = m.of_job
             where j.purge_at <= now() or j.purged_at is not null
             limit $1
         ) d
         where r.of_job = d.of_job and r.of_line = d.of_line and r.job_id = d.job_id",
        most,
    )
    .execute(conn)
    .await?;
    Ok(gone.rows_affected())
}
