//! Results that the database rejects, such as an answer that it cannot represent. Retried unchanged, a rejected row
//! would block its batch for ever. So it is found by bisection, reduced step by step, and in the end set aside.

use std::{sync::Arc, time::Duration};

use domain::ErrorClass;
use metrics::counter;
use store::settlement::NewResult;
use tracing::error;

use super::{Op, Then, batch, finish};
use crate::Engine;

/// How often a row that cannot be reduced further is retried: the table may be at fault, not the row.
const REJECTED_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// How far a rejected row has been reduced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Weight {
    #[default]
    Whole,
    /// A failure in place of the answer.
    Failure,
    /// And nothing that came from the provider in its ledger row.
    Bare,
}

/// Reduces a rejected operation by one step; `None` if nothing is left to remove.
pub(super) fn lighter(op: &mut Op, weight: Weight, why: &store::Error) -> Option<Weight> {
    let code = store::refusal(why).unwrap_or_default();
    counter!("tollway_refused_writes_total").increment(1);
    error!(request.id = op.request_id(), code, ?weight, "The database rejects the result of a request");
    match weight {
        Weight::Whole => {
            if let Op::Settle(settlement) = op {
                match &mut settlement.then {
                    Then::Result(result) => *result = failure(result, &code),
                    Then::Retry(retry) => (retry.last_error, retry.last_deployment) = (None, None),
                }
            }
            Some(Weight::Failure)
        }
        Weight::Failure => {
            if let Some(row) = op.ledger_mut() {
                (row.provider_request_id, row.service_tier, row.tags_json) = (None, None, None);
                row.model_billed = row.model_requested.clone();
            }
            Some(Weight::Bare)
        }
        Weight::Bare => None,
    }
}

/// Ends the request all the same. The database's words may quote what it was given, so only its code is told.
fn failure(result: &NewResult, code: &str) -> NewResult {
    NewResult {
        ok: false,
        body: None,
        vectors: None,
        dims: None,
        base64: false,
        request_id: None,
        error_class: Some(ErrorClass::Unknown.as_str()),
        error_message: Some(format!(
            "the database refused to store its result (SQLSTATE {code}); the call was made and is booked"
        )),
        ..result.clone()
    }
}

/// Retries in a task of its own for as long as the process lives. Its slots and permits are returned.
pub(super) fn keep_trying(engine: Arc<Engine>, mut op: Op) {
    op.let_go();
    tokio::spawn(async move {
        let ops = vec![op];
        loop {
            tokio::time::sleep(REJECTED_RETRY_INTERVAL).await;
            match batch::commit(&engine, &ops, true).await {
                Ok(done) => return finish(&engine, ops, &done),
                Err(error) => error!(%error, "The database still rejects the result; will retry"),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_why_and_holds_nothing_that_came_from_outside() {
        let answer = NewResult {
            job_id: 1,
            line: 7,
            custom_id: "a".into(),
            ok: true,
            attempts: 2,
            status_code: Some(200),
            request_id: Some("req".into()),
            deployment: Some("d".into()),
            endpoint: 1,
            body: Some("{}".into()),
            vectors: None,
            dims: None,
            base64: false,
            error_class: None,
            error_message: None,
        };
        let failed = failure(&answer, "22021");
        assert_eq!((failed.line, failed.ok, failed.body, failed.request_id), (7, false, None, None));
        assert!(failed.error_message.is_some_and(|said| said.contains("22021")));
    }
}
