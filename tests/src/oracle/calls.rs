//! The provider's journal and the ledger tell the same calls.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use simulator::{Endpoint, JournalLine, Outcome};
use sqlx::FromRow;

use crate::{database::Database, polling::SOON, simulator::Simulator};

#[derive(Debug, FromRow)]
struct Row {
    attempt_id: String,
    corrects: Option<String>,
    record_kind: String,
    status: String,
    error_class: Option<String>,
    deployment: String,
    prompt_total: Option<i64>,
    output: i64,
    contracted_cost: Option<i64>,
    price_status: String,
}

const ROWS: &str = "
select attempt_id::text as attempt_id, corrects_attempt_id::text as corrects, record_kind, status, error_class, deployment,
       prompt_total, coalesce(output_text, 0) + coalesce(output_reasoning, 0) as output, contracted_cost, price_status
from ledger";

/// The ledger. A call that was answered while the database was away has no intent, so nothing but its gateway's memory knows that
/// its row is still to come: it is given time.
async fn rows_of(db: &Database, journal: &[JournalLine<'_>]) -> Vec<Row> {
    let deadline = Instant::now() + SOON;
    loop {
        let rows: Vec<Row> = db.rows(ROWS).await;
        let booked: HashSet<&str> = rows.iter().map(|row| row.attempt_id.as_str()).collect();
        let is_booked = |call: &JournalLine<'_>| {
            !matches!(call.endpoint, Endpoint::Chat | Endpoint::Messages | Endpoint::Embeddings)
                || call.client_request_id.as_deref().is_none_or(|id| booked.contains(id))
        };
        if journal.iter().all(is_booked) || Instant::now() > deadline {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn check(db: &Database, simulator: &Simulator) {
    let journal = simulator.journal().await;
    let rows = rows_of(db, &journal).await;
    let mut calls: HashMap<&str, &JournalLine<'_>> = HashMap::with_capacity(journal.len());
    for call in journal
        .iter()
        .filter(|call| matches!(call.endpoint, Endpoint::Chat | Endpoint::Messages | Endpoint::Embeddings))
    {
        let id = call.client_request_id.as_deref().unwrap_or_else(|| panic!("a call without an id: {call:?}"));
        let earlier = calls.insert(id, call);
        assert!(earlier.is_none(), "one attempt was called twice: {earlier:?} and {call:?}");
    }
    let mut originals: HashMap<&str, &Row> = HashMap::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.record_kind == "original") {
        let earlier = originals.insert(&row.attempt_id, row);
        assert!(earlier.is_none(), "an attempt has two rows: {earlier:?} and {row:?}");
    }
    for (id, call) in &calls {
        let row = originals.get(id).unwrap_or_else(|| panic!("a call that the ledger does not have: {call:?}"));
        compare(call, row);
    }
    for (id, row) in &originals {
        let was_sent = !matches!(row.error_class.as_deref(), Some("connect" | "connect_timeout"));
        let may_be_unsent = matches!(row.status.as_str(), "unknown_outcome" | "cancelled") || !was_sent;
        assert!(may_be_unsent || calls.contains_key(id), "a row of a call that the provider never saw: {row:?}");
    }
    check_corrections(&rows, &originals);
}

/// Tokens as the provider billed them, of a call whose end both know.
fn compare(call: &JournalLine<'_>, row: &Row) {
    assert_eq!(call.deployment, row.deployment.as_str(), "{call:?} {row:?}");
    if row.status != "succeeded" {
        return;
    }
    assert_eq!(call.outcome, Outcome::Ok, "a success that the provider does not know of: {call:?} {row:?}");
    let billed = (call.prompt_tokens as i64, call.completion_tokens as i64);
    assert_eq!(billed, (row.prompt_total.unwrap_or(-1), row.output), "{call:?} {row:?}");
    assert!(row.contracted_cost.is_some() == (row.price_status != "unpriced"), "{row:?}");
}

/// A correction belongs to one row of unknown outcome, and each such row has one at most.
fn check_corrections(rows: &[Row], originals: &HashMap<&str, &Row>) {
    let mut corrected: HashMap<&str, &Row> = HashMap::new();
    for row in rows.iter().filter(|row| row.record_kind != "original") {
        let of = row.corrects.as_deref().unwrap_or_else(|| panic!("it corrects nothing: {row:?}"));
        let original = originals.get(of).unwrap_or_else(|| panic!("it corrects what is not there: {row:?}"));
        assert_eq!(original.status, "unknown_outcome", "{row:?} corrects {original:?}");
        assert!(corrected.insert(of, row).is_none(), "a second correction: {row:?}");
    }
}
