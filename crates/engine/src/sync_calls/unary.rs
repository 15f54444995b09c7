//! The answer of a unary call, or why there is none.

use std::time::Duration;

use admission::budgets::{Refusal, Why};
use bytes::Bytes;
use domain::{ErrorClass, waits::WaitReason};
use providers::{Answer, CallError};

use super::DirectError;
use crate::failover::Stuck;

/// The longest Retry-After that a caller is given: an earlier retry may be served by another deployment.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The answer's JSON, with embeddings put back into it in the form that was asked for.
pub(super) fn render(answer: Answer, asked: &str) -> Bytes {
    let Some(vectors) = answer.vectors else { return answer.body };
    let mut out = Vec::with_capacity(answer.body.len() + vectors.data.len() * 3);
    providers::render_embeddings(&answer.body, &vectors, providers::wants_base64(asked), &mut out);
    out.into()
}

pub(super) fn refused(error: CallError) -> DirectError {
    DirectError::Refused {
        status: error.http_status.unwrap_or(400),
        class: error.class,
        message: error.message,
        body: error.body,
    }
}

/// No deployment is left: why the last one gave no answer, or why none could be asked. The class of the error is the same for the
/// call that found out and for those that come while the deployment cools.
pub(super) fn give_up(last: Option<CallError>, stuck: Option<Stuck>) -> DirectError {
    let (after, obstacle, class) = match stuck {
        Some(Stuck::Wait { after, obstacle, class }) => (Some(after), Some(obstacle), class),
        Some(Stuck::OverBudget(Refusal { why: Why::Unasked, .. })) => return DirectError::Unavailable,
        Some(Stuck::OverBudget(refusal)) => return DirectError::Budget(Box::new(refusal)),
        Some(Stuck::Unknown) => return DirectError::Unavailable,
        None => (None, None, None),
    };
    if let Some(error) = last {
        let retry_after = error.retry_after.or(after).map(|wait| wait.min(MAX_RETRY_AFTER));
        return DirectError::Exhausted { class: error.class, message: error.message, retry_after };
    }
    let retry_after = after.unwrap_or_default().min(MAX_RETRY_AFTER);
    match obstacle {
        Some(obstacle) if obstacle.reason == WaitReason::DeploymentLimit => {
            DirectError::Limited { what: obstacle.detail, retry_after: retry_after.max(Duration::from_secs(1)) }
        }
        obstacle => DirectError::Exhausted {
            class: class.unwrap_or(ErrorClass::Overloaded),
            message: obstacle.map_or_else(|| "no deployment is left".to_owned(), |obstacle| obstacle.detail),
            retry_after: Some(retry_after),
        },
    }
}

#[cfg(test)]
mod tests {
    use domain::waits::Obstacle;

    use super::*;

    fn failed(class: ErrorClass, retry_after: Option<u64>) -> CallError {
        CallError {
            class,
            http_status: None,
            retry_after: retry_after.map(Duration::from_secs),
            message: String::new(),
            body: None,
            usage: None,
            provider_request_id: None,
        }
    }

    fn cools(class: ErrorClass, after: u64) -> Stuck {
        let obstacle = Obstacle::new(WaitReason::ProviderCooling, "provider d cools down");
        Stuck::Wait { after: Duration::from_secs(after), obstacle, class: Some(class) }
    }

    #[track_caller]
    fn class_and_wait(error: DirectError) -> (ErrorClass, Option<u64>) {
        let DirectError::Exhausted { class, retry_after, .. } = error else { panic!("{error:?}") };
        (class, retry_after.map(|wait| wait.as_secs()))
    }

    #[test]
    fn who_finds_out_and_who_finds_it_cooling_hear_the_same() {
        for class in [ErrorClass::Throttled, ErrorClass::Overloaded, ErrorClass::ReadTimeout, ErrorClass::Connect] {
            let first = give_up(Some(failed(class, Some(5))), Some(cools(class, 5)));
            let next = give_up(None, Some(cools(class, 5)));
            assert_eq!(class_and_wait(first), class_and_wait(next));
        }
    }

    #[test]
    fn no_caller_is_told_to_wait_for_longer_than_a_minute() {
        for (asked, told) in [(5, 5), (60, 60), (61, 60), (86_400, 60)] {
            let first = give_up(Some(failed(ErrorClass::Throttled, Some(asked))), None);
            let next = give_up(None, Some(cools(ErrorClass::Throttled, asked)));
            assert_eq!((class_and_wait(first).1, class_and_wait(next).1), (Some(told), Some(told)));
        }
    }
}
