//! Submission of a job: JSONL streamed through, or a small JSON body.

use std::{io, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::{
    admit::{Caller, Permission},
    jobs,
    submit::{self, Slow, SubmitError, Submitter, UploadPosition},
};
use store::quota::Over;

use super::{
    jobs::no_job,
    upload::{SubmitParams, submission},
};
use crate::{
    App,
    auth::CurrentCaller,
    input::Params,
    peer::Peer,
    problem::{Kind, Problem, over_budget},
};

/// Jobs take minutes to end, not seconds.
const QUOTA_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Uploads take seconds.
const PERMIT_RETRY_AFTER: Duration = Duration::from_secs(2);

pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Params(query): Params<SubmitParams>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let submission = submission(&query, &headers, body)?;
    let who = Submitter { team_id: caller.team_id, key_id: &caller.key_id, lanes: &caller.lanes };
    if query.dry_run {
        let sums = peer.while_there(submit::validate(&app.engine, who, submission)).await?.map_err(refused)?;
        return Ok(Json(sums).into_response());
    }
    let accepted = Box::pin(peer.while_there(submit::submit(&app.engine, who, submission))).await?.map_err(refused)?;
    answer(&app, &caller, accepted).await
}

/// 202 with the job, whether it is new or was made before.
pub async fn answer(app: &App, caller: &Caller, accepted: submit::Accepted) -> Result<Response, Problem> {
    let mut response = shown(app, caller, accepted).await?;
    if accepted.replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn shown(app: &App, caller: &Caller, accepted: submit::Accepted) -> Result<Response, Problem> {
    let id = accepted.job_id;
    let location = [(header::LOCATION, format!("/api/v1/jobs/{id}"))];
    // The job is in; that it cannot be shown now is no reason to say otherwise.
    let job = jobs::get(&app.engine, caller.scope(Permission::SubmitJobs), id).await.ok().flatten();
    Ok(match job {
        Some(job) => (StatusCode::ACCEPTED, location, Json(job)).into_response(),
        None => {
            let brief = serde_json::json!({ "id": id, "counts": { "accepted": accepted.accepted } });
            (StatusCode::ACCEPTED, location, Json(brief)).into_response()
        }
    })
}

pub fn refused(error: SubmitError) -> Problem {
    if let SubmitError::Unavailable(error) = error {
        return error.into();
    }
    let kind = match &error {
        SubmitError::Param { name, .. } => return Problem::new(Kind::Invalid, &error).with("param", *name),
        SubmitError::UnknownLane { .. } | SubmitError::LaneClosed { .. } => {
            return Problem::new(Kind::Invalid, &error).with("param", "lane");
        }
        SubmitError::LaneNotAllowed { .. } => return Problem::new(Kind::Forbidden, &error).with("param", "lane"),
        SubmitError::NoSuchJob { job } => return no_job(*job).with("param", "after"),
        SubmitError::Line { place, reason } => {
            let (member, number) = match place {
                UploadPosition::Line(number) => ("line", *number),
                UploadPosition::Request(index) => ("request", *index),
            };
            return Problem::new(Kind::BadLine, &error).with(member, number).with("reason", reason.to_string());
        }
        SubmitError::InDoubt { job } => {
            return Problem::new(Kind::Unavailable, &error).with("job", job.to_string());
        }
        SubmitError::AloneOverQuota(over) => return over_quota(Kind::TooLarge, &error, *over),
        SubmitError::OverQuota(over) => {
            return over_quota(Kind::Limited, &error, *over).retry_after(QUOTA_RETRY_AFTER);
        }
        SubmitError::OverBudget(refusal) => return over_budget(refusal),
        SubmitError::Busy { .. } | SubmitError::Slow(Slow::Displaced { .. }) => return Problem::unavailable(error),
        SubmitError::ShareBusy { .. } => return Problem::new(Kind::Limited, error).retry_after(PERMIT_RETRY_AFTER),
        SubmitError::Slow(_) => Kind::Timeout,
        SubmitError::Bomb { .. } | SubmitError::TooBlank { .. } => Kind::TooLarge,
        SubmitError::Empty => Kind::Invalid,
        SubmitError::TooLarge { limit } => return Problem::new(Kind::TooLarge, &error).with("limit", *limit),
        SubmitError::Gzip(_) | SubmitError::Hollow { .. } | SubmitError::Document(_) => Kind::BadRequest,
        SubmitError::Cut(cut) if cut.kind() == io::ErrorKind::TimedOut => Kind::Timeout,
        SubmitError::Cut(_) => Kind::BadRequest,
        SubmitError::InFlight => Kind::UploadUnderWay,
        SubmitError::Mismatch => Kind::KeyReused,
        SubmitError::Abandoned | SubmitError::Unavailable(_) => return Problem::unavailable(error),
    };
    Problem::new(kind, error)
}

fn over_quota(kind: Kind, error: &SubmitError, over: Over) -> Problem {
    let problem = Problem::new(kind, error).with("quota", over.kind).with("limit", over.cap);
    problem.with("used", over.used).with("asked", over.asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_quota_is_named_with_what_is_used() {
        let over = Over { kind: "pending_bytes", cap: 100, used: 90, asked: 20 };
        let problem = refused(SubmitError::OverQuota(over));
        assert_eq!((problem.kind, problem.retry_after), (Kind::Limited, Some(QUOTA_RETRY_AFTER)));
        assert_eq!((&problem.members["quota"], &problem.members["used"]), (&"pending_bytes".into(), &90.into()));
        assert_eq!(refused(SubmitError::AloneOverQuota(over)).kind, Kind::TooLarge);
        assert!(refused(SubmitError::Busy { uploads: 1 }).retry_after.is_some());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_reason() {
        let reason = submit::LineError::Duplicate("a".into());
        let problem = refused(SubmitError::Line { place: UploadPosition::Line(7), reason });
        assert_eq!((problem.kind, &problem.members["line"]), (Kind::BadLine, &7.into()));
        assert!(problem.members["reason"].as_str().is_some_and(|reason| reason.contains("custom_id")));
    }
}
