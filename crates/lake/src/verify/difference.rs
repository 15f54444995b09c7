//! What a comparison can find.

use std::fmt;

use chrono::NaiveDate;
use serde::Serialize;
use uuid::Uuid;

use super::Side;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// The two sides of a day are not equal. Examples of the rows follow.
    Day {
        usage_date: NaiveDate,
        ledger: Side,
        lake: Side,
    },
    OnlyInLedger {
        usage_date: NaiveDate,
        attempt_id: Uuid,
    },
    OnlyInLake {
        usage_date: NaiveDate,
        attempt_id: Uuid,
    },
    /// The attempt is in the lake more than once.
    Repeated {
        usage_date: NaiveDate,
        attempt_id: Uuid,
        times: u64,
    },
    Columns {
        usage_date: NaiveDate,
        attempt_id: Uuid,
        columns: Vec<ColumnDifference>,
    },
    /// The manifest lists a file that is not there.
    MissingFile {
        name: String,
    },
    /// A file that neither the manifest lists nor an export is about to.
    UnlistedFile {
        name: String,
    },
    /// A file whose rows are not those the manifest lists, or that cannot be read.
    WrongFile {
        name: String,
        reason: String,
    },
    /// The database says that the segment was published, but no file of the manifest has it, or one with another hash.
    WrongSegment {
        usage_date: NaiveDate,
        segment_id: i64,
        reason: String,
    },
    /// Rows in no batch: no export would ever find them.
    NeverExported {
        usage_date: NaiveDate,
        rows: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnDifference {
    pub column: &'static str,
    pub ledger: String,
    pub lake: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day { usage_date, ledger, lake } => write!(
                f,
                "{usage_date}: the ledger has {} rows that cost ${}, the lake {} that cost ${}",
                ledger.rows, ledger.cost_usd, lake.rows, lake.cost_usd
            ),
            Self::OnlyInLedger { usage_date, attempt_id } => {
                write!(f, "{usage_date}: attempt {attempt_id} is missing in the lake")
            }
            Self::OnlyInLake { usage_date, attempt_id } => {
                write!(f, "{usage_date}: attempt {attempt_id} is in the lake, but not in the ledger")
            }
            Self::Repeated { usage_date, attempt_id, times } => {
                write!(f, "{usage_date}: attempt {attempt_id} is in the lake {times} times")
            }
            Self::Columns { usage_date, attempt_id, columns } => {
                write!(f, "{usage_date}: attempt {attempt_id} differs:")?;
                columns.iter().try_for_each(|ColumnDifference { column, ledger, lake }| {
                    write!(f, " {column} is {ledger} in the ledger, {lake} in the lake;")
                })
            }
            Self::MissingFile { name } => write!(f, "{name} is listed in the manifest, but not there"),
            Self::UnlistedFile { name } => write!(f, "{name} is there, but not listed in the manifest"),
            Self::WrongFile { name, reason } => write!(f, "{name}: {reason}"),
            Self::WrongSegment { usage_date, segment_id, reason } => {
                write!(f, "{usage_date}: segment {segment_id} {reason}")
            }
            Self::NeverExported { usage_date, rows } => {
                write!(f, "{usage_date}: {rows} rows of the ledger are in no batch, so no export finds them")
            }
        }
    }
}
