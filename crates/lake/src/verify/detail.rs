//! The rows of the buckets that differ, one by one.

use std::{collections::HashMap, sync::Arc};

use chrono::NaiveDate;
use domain::{LedgerRow, manifest::LakeFile};
use store::PgPool;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    bucket::Differing,
    difference::{ColumnDifference, Difference},
    side,
};
use crate::{LakeError, LakeStore, Result, columns, file::Rows};

/// More examples of one day than anybody reads.
const EXAMPLES: usize = 20;

/// Examples of rows that differ, at most 20.
pub async fn compare_rows(
    pool: &PgPool,
    lake: &LakeStore,
    day: NaiveDate,
    files: &[&LakeFile],
    differing: &Arc<Differing>,
) -> Result<Vec<Difference>> {
    let mut in_lake: HashMap<Uuid, Vec<LedgerRow>> = HashMap::new();
    for file in files {
        for row in rows_of(lake, file, differing.clone()).await? {
            in_lake.entry(row.attempt_id).or_default().push(row);
        }
    }
    let mut found = Vec::new();
    side::ledger_rows(pool, day, &side::segments(files), |row| {
        if differing.has(row.attempt_id) {
            found.extend(compare(&row, in_lake.remove(&row.attempt_id).as_deref().unwrap_or_default()));
            // All are taken out of the map, but few are kept.
            found.truncate(EXAMPLES);
        }
    })
    .await?;
    let extra = in_lake.into_keys().map(|attempt_id| Difference::OnlyInLake { usage_date: day, attempt_id });
    let room = EXAMPLES - found.len();
    found.extend(extra.take(room));
    Ok(found)
}

fn compare(row: &LedgerRow, in_lake: &[LedgerRow]) -> Option<Difference> {
    let (usage_date, attempt_id) = (row.usage_date, row.attempt_id);
    match in_lake {
        [] => Some(Difference::OnlyInLedger { usage_date, attempt_id }),
        [one] if one == row => None,
        [one] => {
            let columns = columns::differing(row, one)
                .into_iter()
                .map(|(column, ledger, lake)| ColumnDifference { column, ledger, lake })
                .collect();
            Some(Difference::Columns { usage_date, attempt_id, columns })
        }
        many => Some(Difference::Repeated { usage_date, attempt_id, times: many.len() as u64 }),
    }
}

async fn rows_of(lake: &LakeStore, listed: &LakeFile, differing: Arc<Differing>) -> Result<Vec<LedgerRow>> {
    // That it is missing or broken was said already.
    let Some(file) = lake.read(&listed.name).await? else { return Ok(Vec::new()) };
    let (name, day) = (listed.name.clone(), listed.usage_date);
    spawn_blocking(move || {
        let mut rows = Vec::new();
        let read = || -> Result<()> {
            for row in Rows::open(&name, file, day)? {
                let row = row?;
                if differing.has(row.attempt_id) {
                    rows.push(row);
                }
            }
            Ok(())
        };
        match { read }() {
            Ok(()) | Err(LakeError::Unreadable { .. }) => Ok(rows),
            Err(error) => Err(error),
        }
    })
    .await?
}
