//! Lines that ended without a result, because the job was cancelled or expired. They are not stored: the items say which
//! there were, the results which of them are done.

use std::collections::VecDeque;

use store::{
    PgConnection, PgPool,
    result::{self, Unfinished},
};

/// Items examined in one statement.
const STEP: i32 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Cancelled,
    Expired,
}

/// All of them, in line order over all flows of the job.
#[derive(Debug)]
pub struct Derived {
    job_id: i64,
    why: Why,
    flows: Vec<FlowCursor>,
}

/// Lines of one flow; inside a flow they rise with the position.
#[derive(Debug)]
struct FlowCursor {
    flow_id: i64,
    next_pos: i32,
    items: i32,
    found: VecDeque<Unfinished>,
}

impl Derived {
    /// Starts at line `from`.
    pub async fn start(
        conn: &mut PgConnection,
        job_id: i64,
        flow_ids: &[i64],
        from: i32,
        why: Why,
    ) -> store::Result<Self> {
        let mut flows = Vec::with_capacity(flow_ids.len());
        for flow_id in flow_ids.iter().copied() {
            let items = result::flow_items(&mut *conn, flow_id).await?;
            // A position is at most its line − 1.
            let next_pos = result::first_at(&mut *conn, flow_id, (0, items.min(from - 1)), from).await?;
            flows.push(FlowCursor { flow_id, next_pos, items, found: VecDeque::new() });
        }
        Ok(Self { job_id, why, flows })
    }

    pub fn why(&self) -> Why {
        self.why
    }

    /// The next of them, if its line is below `below`.
    pub async fn next_below(&mut self, pool: &PgPool, below: i32) -> store::Result<Option<Unfinished>> {
        for flow in &mut self.flows {
            flow.refill(pool, self.job_id).await?;
        }
        let line = |flow: &FlowCursor| flow.found.front().map(|unfinished| unfinished.line);
        let first = self
            .flows
            .iter_mut()
            .filter(|flow| line(flow).is_some_and(|line| line < below))
            .min_by_key(|flow| line(flow));
        Ok(first.and_then(|flow| flow.found.pop_front()))
    }
}

impl FlowCursor {
    async fn refill(&mut self, pool: &PgPool, job_id: i64) -> store::Result<()> {
        while self.found.is_empty() && self.next_pos < self.items {
            let mut conn = pool.acquire().await?;
            self.found = result::unfinished(&mut conn, job_id, self.flow_id, self.next_pos, STEP).await?.into();
            self.next_pos = self.next_pos.saturating_add(STEP);
        }
        Ok(())
    }
}
