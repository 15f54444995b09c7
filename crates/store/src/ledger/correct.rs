//! Rows that correct others: what an attempt is charged is the sum of its own row and of all that correct it.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::LedgerRow;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{adjustment_id, possible_days};
use crate::Result;

/// How long after its attempt a late answer may have been booked by a replica that does not note its corrections.
const LATE_BOOKING_WINDOW: TimeDelta = TimeDelta::days(2);

/// The id of an attempt's correction of this number, from 1: the first is [`adjustment_id`]'s. It follows from the attempt, so two that
/// make the same correction cannot both book it.
pub fn correction_id(attempt_id: Uuid, number: u8) -> Uuid {
    let mut bytes = *adjustment_id(attempt_id).as_bytes();
    // The last bytes of an attempt's id are random.
    bytes[15] ^= number.saturating_sub(1);
    Uuid::from_bytes(bytes)
}

/// Locks out other corrections of this attempt until the transaction ends.
pub async fn lock_correction(conn: &mut PgConnection, attempt_id: Uuid) -> Result<()> {
    query!("select pg_advisory_xact_lock(hashtext('tollway_correction'), hashtext($1))", attempt_id.to_string())
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// The row of an attempt, by the id under which it was booked.
pub async fn row(conn: &mut PgConnection, attempt_id: Uuid) -> Result<Option<LedgerRow>> {
    let found = query_scalar!(
        r#"select to_jsonb(l) - 'batch_id' as "row!" from ledger l where usage_date = any($1) and attempt_id = $2"#,
        &possible_days(&[attempt_id]),
        attempt_id
    )
    .fetch_optional(conn)
    .await?;
    found.map(read).transpose()
}

/// All corrections of an attempt whose call ended at this moment, in the order in which they were booked.
pub async fn corrections(
    conn: &mut PgConnection,
    attempt_id: Uuid,
    completed_at: DateTime<Utc>,
) -> Result<Vec<LedgerRow>> {
    let day = completed_at.date_naive();
    let rows = query_scalar!(
        r#"with noted as (
               select correction_id, usage_date from ledger_correction where attempt_id = $1
               union
               select attempt_id, usage_date from ledger_entry
               where attempt_id = $2 and usage_date between $3 and $4
           )
           select to_jsonb(l) - 'batch_id' as "row!"
           from noted join ledger l on l.usage_date = noted.usage_date and l.attempt_id = noted.correction_id
           order by l.recorded_at, l.attempt_id"#,
        attempt_id,
        adjustment_id(attempt_id),
        day,
        (completed_at + LATE_BOOKING_WINDOW).date_naive(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(read).collect()
}

fn read(row: serde_json::Value) -> Result<LedgerRow> {
    serde_json::from_value(row).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Notes which of the rows correct others. In the transaction that inserts them.
pub(super) async fn note(conn: &mut PgConnection, rows: impl Iterator<Item = &LedgerRow>) -> Result<()> {
    let mut noted: Vec<(Uuid, Uuid, NaiveDate)> = Vec::new();
    for row in rows {
        if let Some(of) = row.corrects_attempt_id {
            noted.push((row.attempt_id, of, row.usage_date));
        }
    }
    if noted.is_empty() {
        return Ok(());
    }
    query!(
        "insert into ledger_correction (correction_id, attempt_id, usage_date)
         select * from unnest($1::uuid[], $2::uuid[], $3::date[])",
        &noted.iter().map(|one| one.0).collect::<Vec<_>>(),
        &noted.iter().map(|one| one.1).collect::<Vec<_>>(),
        &noted.iter().map(|one| one.2).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
