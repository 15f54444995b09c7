//! A call whose answer comes whole.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{ErrorClass, Money, attempt::Fault, waits::WaitReason};
use providers::{Answer, CallError};

use super::{
    DirectAnswer, DirectError, Meta,
    admit::{self, Admitted, Stuck},
};
use crate::{
    Engine,
    budgets::{Refusal, Why},
    call,
    meter::{self, Ended},
    settle::{Direct as Booking, Op},
};

pub(super) async fn run(engine: &Engine, mut admitted: Admitted) -> Result<DirectAnswer, DirectError> {
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut last: Option<CallError> = None;
    // Until a provider has taken it: a call that came to nothing burns none of its caller's limits.
    let mut for_nothing = true;
    loop {
        let (deployment, mut permit, reservation) = match admit::next(engine, &admitted, &tried).await {
            Ok(next) => next,
            Err(stuck) => {
                if for_nothing {
                    admitted.permit.refund();
                }
                return Err(give_up(last, stuck));
            }
        };
        let attempt = admit::attempt(engine, deployment, &reservation, &tried);
        let now = engine.clock.now();
        let pessimist = meter::unknown_row(engine.worker_id, &admitted.subject, &attempt, now, now);
        let durable = engine.intents.write(&pessimist);
        reservation.mark_sent();
        let outcome = call::once(engine, &attempt.deployment, admitted.endpoint, admitted.text(), attempt.id).await;
        let durable = durable.reached().await;
        let ended = match &outcome.result {
            Ok(answer) => Ended::answer(outcome.started, outcome.ended, answer),
            Err(error) => Ended::error(outcome.started, outcome.ended, error),
        };
        let is_final = matches!(&outcome.result, Ok(_) | Err(CallError { class: ErrorClass::InvalidRequest, .. }));
        let row = meter::row(
            engine.worker_id,
            &engine.clock,
            &admitted.catalog,
            &admitted.subject,
            &attempt,
            &ended,
            is_final,
        );
        let cost = row.contracted_cost.map(Money);
        let tokens = row.tokens();
        match &outcome.result {
            Ok(_) => permit.settle_tokens(tokens),
            Err(error) => permit.failed(error.class, error.usage.and_then(|usage| usage.total())),
        }
        engine.settler.put(Op::Direct(Box::new(Booking { ledger: row, reservation }))).await;
        if !durable {
            return Err(DirectError::Unavailable);
        }
        match outcome.result {
            Ok(answer) => {
                admitted.permit.settle_tokens(tokens);
                let meta = Meta {
                    request_id: admitted.subject.request_id.clone(),
                    deployment: Arc::clone(&attempt.deployment.name),
                    model: answer.model.clone().unwrap_or_else(|| attempt.deployment.spec.model.clone()),
                    attempts: attempt.no.unsigned_abs(),
                    cost_usd: cost,
                };
                return Ok(DirectAnswer::Whole { status: answer.status, body: render(answer, admitted.text()), meta });
            }
            Err(error) => {
                engine.health.failed(&attempt.deployment.name, error.class, error.retry_after, outcome.started);
                if error.class.fault() == Fault::Request {
                    return Err(refused(error));
                }
                for_nothing &= error.class.fault() == Fault::Outage;
                tried.push(Arc::clone(&attempt.deployment.name));
                last = Some(error);
            }
        }
    }
}

/// The answer's JSON, with embeddings put back into it in the form that was asked for.
fn render(answer: Answer, asked: &str) -> Bytes {
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

pub(super) fn give_up(last: Option<CallError>, stuck: Stuck) -> DirectError {
    let (after, obstacle) = match stuck {
        Stuck::Wait(after, obstacle) => (after, obstacle),
        Stuck::Broke(Refusal { why: Why::Unasked, .. }) => return DirectError::Unavailable,
        Stuck::Broke(refusal) => return DirectError::Budget(Box::new(refusal)),
    };
    match last {
        Some(error) => DirectError::Exhausted {
            class: error.class,
            message: error.message,
            retry_after: Some(error.retry_after.unwrap_or(after)),
        },
        None if obstacle.reason == WaitReason::DeploymentLimit => {
            DirectError::Limited { what: obstacle.detail, retry_after: after.max(Duration::from_secs(1)) }
        }
        None => {
            DirectError::Exhausted { class: ErrorClass::Overloaded, message: obstacle.detail, retry_after: Some(after) }
        }
    }
}
