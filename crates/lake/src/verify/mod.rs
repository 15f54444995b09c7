//! Proves that lake and ledger are equal, row for row and pico-dollar for pico-dollar.
//!
//! Both sides of a day are read once, in any order, and added up in 4,096 buckets by attempt: equal sums mean equal rows. Only
//! where a bucket differs are its rows of both sides compared one by one.

mod bucket;
mod detail;
mod difference;
mod files;
mod side;

use std::{sync::Arc, time::Duration};

use chrono::NaiveDate;
use domain::manifest::{LakeFile, Manifest};
use serde::Serialize;
use store::{
    PgPool,
    export_segment::{self, LakeLock},
};

use crate::{LakeError, LakeStore, Result};
use bucket::Buckets;
pub use difference::{ColumnDifference, Difference};
pub use side::Side;

/// What a comparison found. Rows that wait for export are no difference: the next export brings them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verification {
    pub days: u64,
    pub files: u64,
    /// Rows and cost of the ledger, as far as they are exported.
    pub ledger: Side,
    pub lake: Side,
    /// Rows of the ledger that are not exported yet.
    pub waiting: u64,
    pub differences: Vec<Difference>,
}

impl Verification {
    /// Whether all that is exported is equal.
    pub fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares the whole lake with the ledger. Neither export nor submission is held up: only rows whose segments the manifest
/// lists at the beginning are compared.
pub async fn verify(pool: &PgPool, lake: &LakeStore) -> Result<Verification> {
    let lock = wait_for_lock(pool).await?;
    let surveyed = survey(pool, lake).await;
    lock.release().await?;
    let (mut manifest, days, mut found) = surveyed?;
    for day in days {
        loop {
            let mut of_day = Verification::default();
            verify_day(pool, lake, &manifest, day, &mut of_day).await?;
            match newer_manifest(lake, &of_day).await? {
                Some(newer) => manifest = newer,
                None => {
                    found.ledger += of_day.ledger;
                    found.lake += of_day.lake;
                    found.differences.extend(of_day.differences);
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// The manifest as it is now, when a file was missing that it does not list any more: a compaction replaced it meanwhile, and the
/// day has to be compared anew. Each day is sealed once, so this ends.
async fn newer_manifest(lake: &LakeStore, of_day: &Verification) -> Result<Option<Manifest>> {
    let missing = |difference: &Difference| match difference {
        Difference::MissingFile { name } => Some(name.clone()),
        _ => None,
    };
    let missing: Vec<String> = of_day.differences.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let newer = lake.manifest().await?.unwrap_or_default();
    let is_replaced = missing.iter().any(|name| !newer.files.iter().any(|file| file.name == *name));
    Ok(is_replaced.then_some(newer))
}

/// What there is to compare, and whether files and segments agree. Under the exporter's lock, so that both are of one state.
async fn survey(pool: &PgPool, lake: &LakeStore) -> Result<(Manifest, Vec<NaiveDate>, Verification)> {
    let manifest = lake.manifest().await?.unwrap_or_default();
    let mut conn = pool.acquire().await?;
    let mut days = export_segment::ledger_days(&mut conn).await?;
    days.extend(manifest.files.iter().map(|file| file.usage_date));
    days.sort_unstable();
    days.dedup();
    let mut found = Verification {
        days: days.len() as u64,
        files: manifest.files.len() as u64,
        waiting: export_segment::rows_waiting(&mut conn).await?.max(0) as u64,
        ..Verification::default()
    };
    for day in &days {
        for published in export_segment::published_on(&mut conn, *day).await? {
            files::compare_segment(&manifest, *day, &published, &mut found.differences);
        }
    }
    files::find_unlisted(lake, &manifest, &export_segment::unpublished(&mut conn).await?, &mut found.differences)
        .await?;
    Ok((manifest, days, found))
}

/// An export or a compaction may be under way.
async fn wait_for_lock(pool: &PgPool) -> Result<LakeLock> {
    for _ in 0..240 {
        if let Some(lock) = LakeLock::take(pool).await? {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(LakeError::Busy)
}

async fn verify_day(
    pool: &PgPool,
    lake: &LakeStore,
    manifest: &Manifest,
    day: NaiveDate,
    found: &mut Verification,
) -> Result<()> {
    let files: Vec<&LakeFile> = manifest.between(day, day).collect();
    let segments = side::segments(&files);
    let mut tx = pool.begin().await?;
    export_segment::allow_long_statements(&mut tx).await?;
    let rows = export_segment::rows_without_batch(&mut tx, day).await?;
    tx.rollback().await?;
    if rows > 0 {
        found.differences.push(Difference::NeverExported { usage_date: day, rows: rows as u64 });
    }

    let mut ledger = Buckets::new();
    side::ledger_rows(pool, day, &segments, |row| {
        ledger.add(&row);
    })
    .await?;
    let mut in_lake = Buckets::new();
    for file in &files {
        in_lake = files::add_file(lake, file, in_lake, &mut found.differences).await?;
    }
    found.ledger += ledger.side();
    found.lake += in_lake.side();
    let differing = Arc::new(ledger.differing(&in_lake));
    if !differing.is_empty() {
        found.differences.push(Difference::Day { usage_date: day, ledger: ledger.side(), lake: in_lake.side() });
        found.differences.extend(detail::compare_rows(pool, lake, day, &files, &differing).await?);
    }
    Ok(())
}
