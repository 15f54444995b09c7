//! What was done to a job, and by whom.

use axum::{Json, extract::State};
use domain::{AuditLine, JobId};
use engine::{admit::Permission, jobs};
use serde::Deserialize;

use super::jobs::refused;
use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, parse},
    page::{Limit, Page, read_cursor, read_limit},
    problem::Problem,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    cursor: Option<String>,
    limit: Option<Limit>,
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<Page<AuditLine>>, Problem> {
    let limit = read_limit(params.limit);
    let behind = params.cursor.as_deref().map(read_cursor).transpose()?;
    let behind = behind.map_or(Ok(0), |number| parse::<i64>("cursor", &number))?;
    let scope = caller.scope(Permission::ReadJobs);
    let lines = jobs::history(&app.engine, scope, id, behind, limit + 1).await;
    let lines = lines.map_err(|error| refused(id, error))?;
    let page = Page::of(lines, limit, |(number, _)| number.to_string());
    Ok(Json(Page { data: page.data.into_iter().map(|(_, line)| line).collect(), next: page.next }))
}
