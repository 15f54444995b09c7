//! Quotes: what a job would cost, before it is submitted. The body and the parameters are those of a submission.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use engine::{quote, submit::Submitter};

use super::{
    submit::refused,
    upload::{SubmitParams, submission},
};
use crate::{App, auth::CurrentCaller, input::Params, peer::Peer, problem::Problem};

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
    let quoting = quote::quote(&app.engine, who, &caller.team, submission);
    let quote = peer.while_there(quoting).await?.map_err(refused)?;
    Ok(Json(quote).into_response())
}
