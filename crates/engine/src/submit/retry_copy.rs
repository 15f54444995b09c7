//! Requests copied from one job into another, inside the database, in the order of their lines.

use domain::{JobId, RetryFilter};
use store::{
    PgPool,
    ingest::{self, NewFlow, Upload},
    retry_lineage::{self, Copied, Copies, Pick},
};
use tokio::time::timeout;

use super::{
    RetryError, SubmitError,
    writer::{QuotaRoom, WRITE_TIMEOUT, out_of_time},
};

/// Lines looked through in one go.
const WINDOW: i32 = 20_000;
/// A transaction copies so many at most, or so many bytes.
const CHUNK_ROWS: usize = 5_000;
const CHUNK_BYTES: i64 = 8 << 20;

/// Requests of one flow on their way into a new one.
#[derive(Debug)]
pub struct FlowCopy {
    /// The flow they come from.
    pub from: i64,
    /// The next position to examine, and the end.
    pub next: i32,
    pub end: i32,
    pub new: NewFlow,
    /// Tokens of all that was copied; no output when one of them sets no maximum.
    pub total_in: i64,
    pub total_out: Option<i64>,
}

/// Copies what the filter takes of a job of so many lines. Lines of the new job count from 1, without gaps.
pub async fn copy_all(
    pool: &PgPool,
    room: QuotaRoom,
    (of, lines): (JobId, i32),
    filter: &RetryFilter,
    targets: &mut [FlowCopy],
) -> Result<(), RetryError> {
    let flow_ids: Vec<i64> = targets.iter().map(|target| target.new.flow_id).collect();
    let mut line = 0;
    let mut from = 1;
    while from <= lines {
        let until = from.saturating_add(WINDOW).min(lines + 1);
        let picks = pick(pool, of, (from, until), filter, targets).await?;
        let mut rest = picks.as_slice();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(chunk_of(rest));
            let copies = place(chunk, &mut line, targets);
            room.make(pool, chunk.len() as i64, copies.bytes).await?;
            let copying = copy(pool, room.upload, of, &flow_ids, &copies);
            let copied = timeout(WRITE_TIMEOUT, copying).await.map_err(out_of_time)??;
            match copied {
                Copied::All => rest = more,
                Copied::Purged => return Err(RetryError::Purged),
                Copied::Lost => return Err(SubmitError::Abandoned.into()),
            }
        }
        from = until;
    }
    Ok(())
}

/// What is wanted of the lines `[from, until)`, in their order, each with the place of its flow among the targets.
async fn pick(
    pool: &PgPool,
    of: JobId,
    (from, until): (i32, i32),
    filter: &RetryFilter,
    targets: &mut [FlowCopy],
) -> Result<Vec<(usize, Pick)>, RetryError> {
    let mut conn = pool.acquire().await?;
    // Failures are few: a window without any is passed over by one look into their index.
    let is_wanted = filter.takes_unfinished() || store::failure::any(&mut conn, of.0, from, until, filter).await?;
    let mut picks = Vec::new();
    for (n, target) in targets.iter_mut().enumerate() {
        let high = target.end.min(target.next.saturating_add(until - from));
        let end = store::result::first_at(&mut conn, target.from, (target.next, high), until).await?;
        if is_wanted {
            let found = retry_lineage::pick(&mut conn, of.0, target.from, (target.next, end), filter).await?;
            picks.extend(found.into_iter().map(|pick| (n, pick)));
        }
        target.next = end;
    }
    picks.sort_unstable_by_key(|(_, pick)| pick.line);
    Ok(picks)
}

/// How many of these go into the next transaction; at least one.
fn chunk_of(picks: &[(usize, Pick)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, pick): &&(usize, Pick)| {
        bytes += i64::from(pick.bytes);
        bytes <= CHUNK_BYTES
    };
    picks.iter().take(CHUNK_ROWS).take_while(fits).count().max(1)
}

/// Gives each its place in the new job.
fn place(picks: &[(usize, Pick)], line: &mut i32, targets: &mut [FlowCopy]) -> Copies {
    let mut copies = Copies::default();
    for (n, pick) in picks {
        let target = &mut targets[*n];
        *line += 1;
        copies.from_flows.push(target.from);
        copies.from_pos.push(pick.pos);
        copies.from_lines.push(pick.line);
        copies.flows.push(target.new.flow_id);
        copies.pos.push(target.new.items);
        copies.lines.push(*line);
        copies.bytes += i64::from(pick.bytes);
        target.new.items += 1;
        target.new.max_in = target.new.max_in.max(pick.est_in);
        target.new.max_out = target.new.max_out.zip(pick.max_out).map(|(a, b)| a.max(b));
        target.total_in += i64::from(pick.est_in);
        target.total_out = target.total_out.zip(pick.max_out).map(|(sum, most)| sum + i64::from(most));
    }
    copies
}

async fn copy(pool: &PgPool, upload: Upload, of: JobId, flow_ids: &[i64], copies: &Copies) -> store::Result<Copied> {
    let mut tx = ingest::begin_append(pool).await?;
    let copied = retry_lineage::copy(&mut tx, upload, of.0, flow_ids, copies).await?;
    match copied {
        Copied::All => tx.commit().await?,
        Copied::Purged | Copied::Lost => tx.rollback().await?,
    }
    Ok(copied)
}
