//! What the lake holds: `_manifest.json`. It lists the live files; whoever reads the lake reads these and no others, so that
//! a file half way through publication or compaction is never counted.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The name of the manifest inside the lake.
pub const MANIFEST: &str = "_manifest.json";
/// Of the manifest and of the files' columns. Columns are appended, never changed.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    pub updated_at: Option<DateTime<Utc>>,
    /// Every day up to this one is in `ledger/`; rows that come later are added there.
    pub sealed_through: Option<NaiveDate>,
    pub files: Vec<LakeFile>,
    /// Files that compaction replaced and is about to remove.
    #[serde(default)]
    pub retired: Vec<RetiredFile>,
}

/// One Parquet file. Its name and its rows never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeFile {
    /// Relative to the lake: `hot/usage_date=2026-11-22/seg-7.parquet`.
    pub name: String,
    pub usage_date: NaiveDate,
    pub rows: u64,
    pub bytes: u64,
    /// Of the rows, in any order: see `lake::digest`.
    pub content_hash: String,
    /// The frozen segments whose rows it has.
    pub segments: SegmentSet,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredFile {
    pub name: String,
    pub retired_at: DateTime<Utc>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            updated_at: None,
            sealed_through: None,
            files: Vec::new(),
            retired: Vec::new(),
        }
    }
}

impl Manifest {
    /// The live files of the days `from..=to`.
    pub fn between(&self, from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = &LakeFile> {
        self.files.iter().filter(move |file| (from..=to).contains(&file.usage_date))
    }

    /// Whether rows of `day` that are exported now belong into `ledger/` rather than `hot/`.
    pub fn is_sealed(&self, day: NaiveDate) -> bool {
        self.sealed_through.is_some_and(|sealed| day <= sealed)
    }
}

/// Segment ids, kept as ranges: those of a day are nearly all consecutive. In JSON `[[1,40],[43,43]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentSet(Vec<(i64, i64)>);

impl SegmentSet {
    pub fn contains(&self, id: i64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        after > 0 && id <= self.0[after - 1].1
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    pub fn last(&self) -> Option<i64> {
        self.0.last().map(|(_, last)| *last)
    }
}

impl FromIterator<i64> for SegmentSet {
    fn from_iter<I: IntoIterator<Item = i64>>(ids: I) -> Self {
        let mut ids: Vec<i64> = ids.into_iter().collect();
        ids.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some((_, last)) if id <= last.saturating_add(1) => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        Self(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(mut ids in proptest::collection::vec(0i64..60, 0..30)) {
            let set: SegmentSet = ids.iter().copied().collect();
            ids.sort_unstable();
            ids.dedup();
            for id in -1..61 {
                prop_assert_eq!(set.contains(id), ids.contains(&id));
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), ids);
        }
    }

    #[test]
    fn consecutive_segments_are_one_range() {
        let set: SegmentSet = [3, 1, 2, 7].into_iter().collect();
        assert_eq!(serde_json::to_string(&set).unwrap(), "[[1,3],[7,7]]");
    }
}
