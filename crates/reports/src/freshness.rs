//! How far the lake is behind the ledger: what a report cannot show.

use chrono::{DateTime, Utc};
use domain::manifest::Manifest;
use serde::Serialize;

use crate::figures::thousands;

/// Ledger rows of a report's days that no file of the lake has. Counted before the manifest is read, so that a row which is
/// exported in between counts as missing rather than as present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    pub rows: i64,
    /// When the oldest of them was written.
    pub since: Option<DateTime<Utc>>,
}

/// The state of the lake under a report. In JSON `rows_behind` is null where nobody could ask the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Freshness {
    /// When the lake was last written to.
    pub updated_at: Option<DateTime<Utc>>,
    pub rows_behind: Option<i64>,
    pub behind_since: Option<DateTime<Utc>>,
}

impl Freshness {
    pub fn new(manifest: &Manifest, behind: Option<Behind>) -> Self {
        Self {
            updated_at: manifest.updated_at,
            rows_behind: behind.map(|behind| behind.rows),
            behind_since: behind.and_then(|behind| behind.since),
        }
    }

    /// A sentence for people.
    pub fn sentence(&self) -> String {
        let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        match (self.rows_behind, self.behind_since, self.updated_at) {
            (Some(0), ..) => "The lake has every ledger row of these days.".to_owned(),
            (Some(rows), since, _) => {
                let since = since.map_or_else(String::new, |at| format!(" (the oldest written at {})", time(at)));
                let rows = match rows {
                    1 => "1 ledger row".to_owned(),
                    rows => format!("{} ledger rows", thousands(rows.into())),
                };
                format!("The lake is behind the ledger: this report is without {rows} of these days{since}.")
            }
            (None, _, Some(at)) => {
                format!(
                    "The ledger could not be asked what this report is without; the lake was last written to at {}.",
                    time(at)
                )
            }
            (None, _, None) => "The ledger could not be asked what this report is without.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_said() {
        let at: DateTime<Utc> = "2026-11-22T12:00:05.9Z".parse().unwrap();
        let manifest = Manifest { updated_at: Some(at), ..Manifest::default() };
        let said = |behind| Freshness::new(&manifest, behind).sentence();
        assert_eq!(said(Some(Behind { rows: 0, since: None })), "The lake has every ledger row of these days.");
        assert_eq!(
            said(Some(Behind { rows: 12_994, since: Some(at) })),
            "The lake is behind the ledger: this report is without 12,994 ledger rows of these days (the oldest written at \
             2026-11-22 12:00:05 UTC)."
        );
        assert!(said(Some(Behind { rows: 1, since: None })).contains("without 1 ledger row of"));
        assert!(said(None).ends_with("the lake was last written to at 2026-11-22 12:00:05 UTC."));
        assert_eq!(
            serde_json::to_value(Freshness::default()).unwrap(),
            serde_json::json!({"updated_at": null, "rows_behind": null, "behind_since": null})
        );
    }
}
