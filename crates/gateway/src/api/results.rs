//! A job's results: OpenAI's result lines, streamed in line order, also while the job runs; or its vectors as Parquet.

use std::{io, pin::Pin};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::JobId;
use engine::{
    admit::Permission,
    jobs,
    results::{self, ResultQuery, ResultsError},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::jobs::no_job;
use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, Whole},
    problem::{Kind, Problem},
};

/// Requests without a result when the answer began.
const PENDING: &str = "x-tollway-pending";
/// Requests that ended without a vector, and so are not in a table of vectors.
const LEFT_OUT: &str = "x-tollway-left-out";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultParams {
    /// The first line wanted, counted from 1.
    from: Option<Whole<1, { i32::MAX as i64 }>>,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    format: Format,
    merge: Option<Merge>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Jsonl,
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Merge {
    /// Results of a job's retries, in place of its own failures.
    Retries,
}

pub async fn stream(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
    Params(params): Params<ResultParams>,
) -> Result<Response, Problem> {
    let scope = caller.scope(Permission::ReadResults);
    let job = jobs::get(&app.engine, scope, id).await?.ok_or_else(|| no_job(id))?;
    if params.format == Format::Parquet {
        return vectors(&app, caller.team_id, id, &params).await;
    }
    let query = ResultQuery {
        from: from(&params),
        failed: params.failed,
        follow: params.follow,
        merge: params.merge.is_some(),
    };
    let mut pieces: Pieces = Box::pin(results::stream(&app.engine, id, query));
    // A job that still runs may have nothing for long; of any other, what is wrong can be said before the head is sent.
    let first = if params.follow && !job.state.is_terminal() { None } else { pieces.next().await };
    let first = first.transpose().map_err(|error| refused(id, error))?;
    let rest = Rest { pieces, follow: params.follow, stopping: app.stopping.clone() };
    let body = Body::from_stream(stream::iter(first.map(Ok)).chain(rest.into_stream()));
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response();
    if !params.follow {
        let pending = HeaderValue::from(job.counts.pending);
        response.headers_mut().insert(HeaderName::from_static(PENDING), pending);
    }
    Ok(response)
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, ResultsError>> + Send>>;

struct Rest {
    pieces: Pieces,
    follow: bool,
    stopping: CancellationToken,
}

impl Rest {
    /// Whatever ends it early cuts the body, so that nobody takes a part for the whole.
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut rest| async {
            let piece = tokio::select! {
                piece = rest.pieces.next() => piece,
                () = rest.stopping.cancelled(), if rest.follow => {
                    return Err(io::Error::other("Tollway is shutting down; go on with from"));
                }
            };
            match piece.transpose() {
                Ok(piece) => Ok(piece.map(|piece| (piece, rest))),
                Err(error) => {
                    tracing::warn!(%error, "Results were cut; the caller can go on with from");
                    Err(io::Error::other(error))
                }
            }
        })
    }
}

async fn vectors(app: &App, team_id: i64, id: JobId, params: &ResultParams) -> Result<Response, Problem> {
    if params.from.is_some() || params.failed || params.follow || params.merge.is_some() {
        let detail = "format=parquet gives all vectors that there are; it takes no from, failed, follow or merge.";
        return Err(Problem::new(Kind::BadRequest, detail).with("param", "format"));
    }
    let lines = results::count_vectors(&app.engine.pools.api, id).await.map_err(|error| refused(id, error))?;
    let body = app.children.run(team_id, vec!["lake".into(), "vectors".into(), format!("--job={id}")]).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.apache.parquet".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.parquet\"")),
        (HeaderName::from_static(PENDING), lines.pending.to_string()),
        (HeaderName::from_static(LEFT_OUT), lines.left_out.to_string()),
    ];
    Ok((headers, body).into_response())
}

fn from(params: &ResultParams) -> i32 {
    params.from.and_then(|Whole(line)| line.try_into().ok()).unwrap_or(1)
}

fn refused(id: JobId, error: ResultsError) -> Problem {
    match error {
        ResultsError::NoJob => no_job(id),
        ResultsError::Purged => Problem::new(Kind::Gone, error),
        ResultsError::Unavailable(error) => error.into(),
    }
}
