//! Results of a job's retries, in place of its own failures.

use std::collections::VecDeque;

use store::{
    PgConnection, PgPool,
    result::{PageSize, ResultRow},
    retry_lineage::{self, Replacement},
};

/// Replaced results of one page.
const BYTES: i64 = 4 << 20;

/// Read forward only.
#[derive(Debug)]
pub struct Merged {
    job_id: i64,
    /// Lines below it are known.
    until: i32,
    keys: VecDeque<Replacement>,
    rows: VecDeque<ResultRow>,
}

impl Merged {
    pub fn of(job_id: i64) -> Self {
        Self { job_id, until: 0, keys: VecDeque::new(), rows: VecDeque::new() }
    }

    /// Looks for replacements in `[from, until)`; gives the end of what one page should hold of it.
    pub async fn look(&mut self, conn: &mut PgConnection, from: i32, until: i32) -> store::Result<i32> {
        if from >= self.until {
            self.keys = retry_lineage::replacements(conn, self.job_id, from, until).await?.into();
            self.until = until;
        }
        self.pass(from);
        let mut bytes = 0;
        let past = self.keys.iter().find(|key| {
            bytes += key.bytes;
            bytes > BYTES
        });
        // The one that is too much still comes, lest a large one come never.
        let end = past.map_or(self.until, |key| key.of_line + 1);
        Ok(end.min(until))
    }

    /// The replacement of a line behind all that were asked for.
    pub async fn take(&mut self, pool: &PgPool, line: i32) -> store::Result<Option<ResultRow>> {
        self.pass(line);
        if self.keys.front().is_none_or(|key| key.of_line != line) {
            return Ok(None);
        }
        if self.rows.is_empty() {
            let size = PageSize { rows: 500, bytes: BYTES };
            let mut conn = pool.acquire().await?;
            self.rows = retry_lineage::results(&mut conn, self.keys.make_contiguous(), size).await?.into();
        }
        let is_there = self.rows.front().is_some_and(|row| row.line == line);
        Ok(if is_there { self.rows.pop_front() } else { None })
    }

    fn pass(&mut self, line: i32) {
        while self.keys.front().is_some_and(|key| key.of_line < line) {
            self.keys.pop_front();
        }
        while self.rows.front().is_some_and(|row| row.line < line) {
            self.rows.pop_front();
        }
    }
}
