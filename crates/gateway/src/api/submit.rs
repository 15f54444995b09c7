//! Submission of a job: JSONL streamed through, or a small JSON body.

use std::{io, str::FromStr, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::job::JobParams;
use engine::{
    admit::{Caller, Permission},
    jobs,
    submit::{self, Format, Place, Submission, SubmitError, Submitter},
};
use futures::{Stream, stream};
use serde::Deserialize;
use store::quota::Over;
use tokio_util::io::StreamReader;

use super::jobs::no_job;
use crate::{
    app::App,
    auth::Who,
    input::{Params, Pieces, parse},
    problem::{Kind, Problem, over_budget},
};

/// Jobs take minutes to end, not seconds.
const QUOTA_PAUSE: Duration = Duration::from_secs(30);

/// Each is a header too, `x-tollway-` before its name and `-` for `_`; the query wins.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubmitParams {
    pub name: Option<String>,
    pub lane: Option<String>,
    pub tags: Option<String>,
    pub priority: Option<String>,
    pub deadline: Option<String>,
    pub start_at: Option<String>,
    pub after: Option<String>,
    pub max_attempts: Option<String>,
    pub max_cost: Option<String>,
    pub webhook: Option<String>,
    pub dry_run: bool,
}

pub async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<SubmitParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let submission = Submission {
        params: from_headers(&headers)?.read()?.overridden_by(query.read()?),
        idempotency_key: header(&headers, "idempotency-key")?.map(str::to_owned),
        format: format(&headers)?,
        body: StreamReader::new(Box::pin(bytes(body))),
    };
    let who = Submitter { team_id: caller.team_id, key_id: &caller.key_id, lanes: &caller.lanes };
    if query.dry_run {
        let sums = submit::validate(&app.engine, who, submission).await.map_err(refused)?;
        return Ok(Json(sums).into_response());
    }
    let accepted = submit::submit(&app.engine, who, submission).await.map_err(refused)?;
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

impl SubmitParams {
    pub fn read(&self) -> Result<JobParams, Problem> {
        fn value<T: FromStr<Err: std::fmt::Display>>(
            name: &'static str,
            text: Option<&String>,
        ) -> Result<Option<T>, Problem> {
            text.map(|text| parse(name, text)).transpose()
        }
        Ok(JobParams {
            name: self.name.clone(),
            lane: value("lane", self.lane.as_ref())?,
            tags: value("tags", self.tags.as_ref())?.unwrap_or_default(),
            priority: value("priority", self.priority.as_ref())?,
            deadline: value("deadline", self.deadline.as_ref())?,
            start_at: value("start_at", self.start_at.as_ref())?,
            after: value("after", self.after.as_ref())?,
            max_attempts: value("max_attempts", self.max_attempts.as_ref())?,
            max_cost: value("max_cost", self.max_cost.as_ref())?,
            webhook: self.webhook.clone(),
        })
    }
}

pub fn from_headers(headers: &HeaderMap) -> Result<SubmitParams, Problem> {
    let text = |name: &'static str| Ok::<_, Problem>(header(headers, name)?.map(str::to_owned));
    Ok(SubmitParams {
        name: text("x-tollway-name")?,
        lane: text("x-tollway-lane")?,
        tags: text("x-tollway-tags")?,
        priority: text("x-tollway-priority")?,
        deadline: text("x-tollway-deadline")?,
        start_at: text("x-tollway-start-at")?,
        after: text("x-tollway-after")?,
        max_attempts: text("x-tollway-max-attempts")?,
        max_cost: text("x-tollway-max-cost")?,
        webhook: text("x-tollway-webhook")?,
        dry_run: false,
    })
}

pub fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Problem> {
    let value = headers.get(name).map(|value| std::str::from_utf8(value.as_bytes())).transpose();
    value.map_err(|_| Problem::new(Kind::BadRequest, format_args!("{name} is not UTF-8.")).with("param", name))
}

/// JSON by its content type; everything else, also no type at all and curl's usual one, is JSONL.
pub fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    // gzip is told by its first byte, named or not.
    if let Some(encoding) = header(headers, "content-encoding")?
        && !matches!(encoding.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip" | "identity" | "")
    {
        let detail = format_args!("content-encoding {encoding:?} is not taken; gzip is.");
        return Err(Problem::new(Kind::UnsupportedMedia, detail).with("param", "content-encoding"));
    }
    let media = header(headers, "content-type")?.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if media.to_ascii_lowercase().starts_with("multipart/") {
        let detail = "Forms are not taken: send the file itself as the body (curl: --data-binary @FILE or -T FILE).";
        return Err(Problem::new(Kind::UnsupportedMedia, detail).with("param", "content-type"));
    }
    Ok(if media.eq_ignore_ascii_case("application/json") { Format::Json } else { Format::Jsonl })
}

/// The upload as the engine reads it.
pub fn bytes(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(Pieces::new(body), |mut body| async move {
        match body.next().await {
            Ok(bytes) => Ok(bytes.map(|bytes| (bytes, body))),
            Err(problem) if problem.kind == Kind::Timeout => {
                Err(io::Error::new(io::ErrorKind::TimedOut, problem.detail))
            }
            Err(problem) => Err(io::Error::new(io::ErrorKind::ConnectionReset, problem.detail)),
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
                Place::Line(number) => ("line", *number),
                Place::Request(index) => ("request", *index),
            };
            return Problem::new(Kind::BadLine, &error).with(member, number).with("reason", reason.to_string());
        }
        SubmitError::InDoubt { job } => {
            return Problem::new(Kind::Unavailable, &error).with("job", job.to_string());
        }
        SubmitError::AloneOverQuota(over) => return over_quota(Kind::TooLarge, &error, *over),
        SubmitError::OverQuota(over) => {
            return over_quota(Kind::Limited, &error, *over).retry_after(QUOTA_PAUSE);
        }
        SubmitError::OverBudget(refusal) => return over_budget(refusal),
        SubmitError::Busy { .. } => return Problem::unavailable(error),
        SubmitError::Empty => Kind::Invalid,
        SubmitError::TooLarge { limit } => return Problem::new(Kind::TooLarge, &error).with("limit", *limit),
        SubmitError::Gzip(_) | SubmitError::Document(_) => Kind::BadRequest,
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

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_query_wins_over_the_header() {
        let from_header = from_headers(&headers(&[
            ("x-tollway-lane", "standard"),
            ("x-tollway-tags", "feature=search,customer=acme"),
            ("x-tollway-priority", "5"),
        ]));
        let query = SubmitParams {
            lane: Some("bulk".into()),
            tags: Some("feature=reindex".into()),
            deadline: Some("2026-12-01T00:00:00Z".into()),
            ..SubmitParams::default()
        };
        let params = from_header.unwrap().read().unwrap().overridden_by(query.read().unwrap());
        assert_eq!((params.lane.unwrap().as_str(), params.priority), ("bulk", Some(5)));
        assert_eq!((params.tags.feature(), params.tags.customer()), ("reindex", Some("acme")));
        assert!(params.deadline.is_some());
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for (name, params) in [
            ("lane", SubmitParams { lane: Some("No Such".into()), ..SubmitParams::default() }),
            ("tags", SubmitParams { tags: Some("team=x".into()), ..SubmitParams::default() }),
            ("priority", SubmitParams { priority: Some("high".into()), ..SubmitParams::default() }),
            ("max_cost", SubmitParams { max_cost: Some("much".into()), ..SubmitParams::default() }),
            ("deadline", SubmitParams { deadline: Some("tomorrow".into()), ..SubmitParams::default() }),
        ] {
            assert_eq!(params.read().unwrap_err().members["param"], name);
        }
    }

    #[test]
    fn the_form_follows_from_the_content_type() {
        let is = |pairs: &[(&'static str, &'static str)]| format(&headers(pairs)).map_err(|problem| problem.kind);
        assert_eq!(is(&[]), Ok(Format::Jsonl));
        assert_eq!(is(&[("content-type", "application/x-www-form-urlencoded")]), Ok(Format::Jsonl));
        assert_eq!(is(&[("content-type", "application/json; charset=utf-8")]), Ok(Format::Json));
        assert_eq!(is(&[("content-encoding", "gzip")]), Ok(Format::Jsonl));
        assert_eq!(is(&[("content-encoding", "br")]), Err(Kind::UnsupportedMedia));
        assert_eq!(is(&[("content-type", "multipart/form-data; boundary=x")]), Err(Kind::UnsupportedMedia));
    }

    #[test]
    fn a_full_quota_is_named_with_what_is_used() {
        let over = Over { kind: "pending_bytes", cap: 100, used: 90, asked: 20 };
        let problem = refused(SubmitError::OverQuota(over));
        assert_eq!((problem.kind, problem.retry_after), (Kind::Limited, Some(QUOTA_PAUSE)));
        assert_eq!((&problem.members["quota"], &problem.members["used"]), (&"pending_bytes".into(), &90.into()));
        assert_eq!(refused(SubmitError::AloneOverQuota(over)).kind, Kind::TooLarge);
        assert!(refused(SubmitError::Busy { uploads: 1 }).retry_after.is_some());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_reason() {
        let reason = submit::LineError::Duplicate("a".into());
        let problem = refused(SubmitError::Line { place: Place::Line(7), reason });
        assert_eq!((problem.kind, &problem.members["line"]), (Kind::BadLine, &7.into()));
        assert!(problem.members["reason"].as_str().is_some_and(|reason| reason.contains("custom_id")));
    }
}
