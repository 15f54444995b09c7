//! Results: OpenAI's batch output lines, in line order, while the job runs or after. Pages by keyset, one short statement
//! each, so that memory stays flat and a slow reader holds no transaction open.

mod derived;
mod merged;
mod render;
mod vectors;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use domain::{JobId, JobState};
use futures::Stream;
use store::{
    PgConnection, PgPool,
    result::{self, Page, PageSize, Source, Span},
};
use tokio::time::sleep;

pub use self::vectors::{Embedded, EmbeddedPage, VectorLines, count_vectors, vectors_page};
use self::{
    derived::{Derived, Why},
    merged::Merged,
};
use crate::Engine;

/// What one page may hold before rendering; numbers of embeddings take about three times as much as text.
const PAGE: PageSize = PageSize { rows: 500, bytes: 1 << 20 };
/// Lines that one statement may pass over in search of failed ones, and fewer where each of them may be derived.
const WINDOW: i32 = 50_000;
const DERIVED_WINDOW: i32 = 4_000;
/// How often a reader that follows looks whether its gap was filled.
const POLL_INTERVAL: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultQuery {
    /// The first line wanted, from 1.
    pub from: i32,
    /// Only those that failed, were cancelled or expired.
    pub failed: bool,
    /// Waits at each gap until it is filled or the job has ended. Without it, gaps are passed over.
    pub follow: bool,
    /// Replaces each failure by the outcome of its retries: a success, or else the newest failure.
    pub merge: bool,
}

impl Default for ResultQuery {
    fn default() -> Self {
        Self { from: 1, failed: false, follow: false, merge: false }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    #[error("there is no such job")]
    NoJob,
    /// 410.
    #[error("the results of this job were purged, as its retention says")]
    Purged,
    /// Transient; continue with `from` at the first missing line.
    #[error("the database cannot be read now; try again later")]
    Unavailable(#[from] store::Error),
}

/// Whole lines, several to a piece. Ends at the job's last line; of a job that has ended, cancelled and expired lines are
/// among them.
pub fn stream(
    engine: &Engine,
    job: JobId,
    query: ResultQuery,
) -> impl Stream<Item = Result<Bytes, ResultsError>> + Send + use<> {
    stream_from(engine.pools.api.clone(), job, query)
}

pub fn stream_from(
    pool: PgPool,
    job: JobId,
    query: ResultQuery,
) -> impl Stream<Item = Result<Bytes, ResultsError>> + Send + use<> {
    let merged = query.merge.then(|| Merged::of(job.0));
    let reader = Reader { pool, job, query, next: query.from.max(1), seen: None, derived: None, merged };
    futures::stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.piece().await?;
        Ok(piece.map(|piece| (piece, reader)))
    })
}

struct Reader {
    pool: PgPool,
    job: JobId,
    query: ResultQuery,
    /// The next line to examine.
    next: i32,
    /// The job as last read; read once unless it is followed.
    seen: Option<Seen>,
    derived: Option<Derived>,
    merged: Option<Merged>,
}

#[derive(Clone, Copy)]
struct Seen {
    ended: bool,
    last: i32,
}

impl Reader {
    /// The next lines; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, ResultsError> {
        loop {
            let seen = self.look().await?;
            if self.next > seen.last {
                return self.end().await;
            }
            let until = if seen.ended || !self.query.follow { seen.last + 1 } else { self.gap().await? };
            if until == self.next {
                sleep(POLL_INTERVAL).await;
                continue;
            }
            let window = if self.derived.is_some() { DERIVED_WINDOW } else { WINDOW };
            let mut until = until.min(self.next.saturating_add(window));
            let mut conn = self.pool.acquire().await?;
            if let Some(merged) = &mut self.merged {
                until = merged.look(&mut conn, self.next, until).await?;
            }
            let span = Span { from: self.next, until, failed_only: self.query.failed };
            let page = result::page(&mut conn, self.job.0, span, PAGE).await?;
            drop(conn);
            let piece = self.render(page).await?;
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
    }

    /// What was purged in the meantime looks like gaps: a reader must not take the rest for all of it.
    async fn end(&mut self) -> Result<Option<Bytes>, ResultsError> {
        source(&mut *self.pool.acquire().await?, self.job).await?;
        Ok(None)
    }

    async fn look(&mut self) -> Result<Seen, ResultsError> {
        if let Some(seen) = self.seen.filter(|seen| seen.ended || !self.query.follow) {
            return Ok(seen);
        }
        let mut conn = self.pool.acquire().await?;
        let source = source(&mut conn, self.job).await?;
        let ended = JobState::from_word(&source.state).is_some_and(JobState::is_terminal);
        if ended && let Some(why) = why_unfinished(&source) {
            self.derived = Some(Derived::start(&mut conn, self.job.0, &source.flow_ids, self.next, why).await?);
        }
        let seen = Seen { ended, last: i32::try_from(source.accepted).unwrap_or(i32::MAX - 1) };
        self.seen = Some(seen);
        Ok(seen)
    }

    /// The first line from the next on that has no result yet, as far as one statement sees.
    async fn gap(&self) -> Result<i32, ResultsError> {
        let lines = result::lines(&mut *self.pool.acquire().await?, self.job.0, self.next, PAGE.rows).await?;
        let whole = lines.iter().zip(self.next..).take_while(|(line, expected)| *line == expected).count();
        Ok(self.next + whole as i32)
    }

    /// Writes a page with the derived lines between its rows, and moves past it.
    async fn render(&mut self, page: Page) -> Result<Vec<u8>, ResultsError> {
        let mut out = Vec::new();
        for row in &page.rows {
            self.render_derived(row.line, &mut out).await?;
            if row.ok || !self.render_merged(row.line, &mut out).await? {
                render::stored(self.job, row, &mut out);
            }
        }
        self.render_derived(page.next, &mut out).await?;
        self.next = page.next;
        Ok(out)
    }

    async fn render_derived(&mut self, below: i32, out: &mut Vec<u8>) -> Result<(), ResultsError> {
        let Some(mut derived) = self.derived.take() else { return Ok(()) };
        while let Some(line) = derived.next_below(&self.pool, below).await? {
            if !self.render_merged(line.line, out).await? {
                render::derived(self.job, &line, derived.why(), out);
            }
        }
        self.derived = Some(derived);
        Ok(())
    }

    /// Writes what came of a line's retries, unless only failures are wanted and it is none; false when there is nothing.
    async fn render_merged(&mut self, line: i32, out: &mut Vec<u8>) -> Result<bool, ResultsError> {
        let Some(merged) = &mut self.merged else { return Ok(false) };
        let Some(row) = merged.take(&self.pool, line).await? else { return Ok(false) };
        if !(row.ok && self.query.failed) {
            render::stored(self.job, &row, out);
        }
        Ok(true)
    }
}

async fn source(conn: &mut PgConnection, job: JobId) -> Result<Source, ResultsError> {
    match result::source(conn, job.0).await? {
        None => Err(ResultsError::NoJob),
        Some(source) if source.purged => Err(ResultsError::Purged),
        Some(source) => Ok(source),
    }
}

/// Why requests of a job that ended have no result; `None` when all have one.
fn why_unfinished(source: &Source) -> Option<Why> {
    match (source.cancelled, source.expired) {
        (0, 0) => None,
        (_, 0) => Some(Why::Cancelled),
        _ => Some(Why::Expired),
    }
}
