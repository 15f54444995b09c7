//! Who changed what: lanes, limits, keys, teams, schedules, the configuration, and jobs.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use domain::{AuditLine, Object};
use serde::Deserialize;
use store::audit::{self, ListQuery};

use crate::{
    App,
    input::{Params, parse},
    page::{Limit, Page, read_cursor, read_limit},
    problem::{Kind, Problem},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    object: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<Limit>,
}

pub async fn list(
    State(app): State<App>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<AuditLine>>, Problem> {
    let limit = read_limit(params.limit);
    let time = |name, text: Option<&String>| text.map(|text| parse::<DateTime<Utc>>(name, text)).transpose();
    let asked = ListQuery {
        object: params.object.as_deref().map(|object| parse::<Object>("object", object)).transpose()?,
        from: time("from", params.from.as_ref())?,
        to: time("to", params.to.as_ref())?,
        before: params.cursor.as_deref().map(read_place).transpose()?,
        limit: limit + 1,
    };
    let lines = audit::list(&mut *app.engine.pools.api.acquire().await?, &asked).await?;
    let page = Page::of(lines, limit, |(number, line)| format!("{} {number}", line.at.timestamp_micros()));
    Ok(Json(Page { data: page.data.into_iter().map(|(_, line)| line).collect(), next: page.next }))
}

/// A line's time, to the microsecond as the database keeps it, and its number.
fn read_place(cursor: &str) -> Result<(DateTime<Utc>, i64), Problem> {
    let text = read_cursor(cursor)?;
    let place = text.split_once(' ').and_then(|(at, number)| {
        let at = at.parse().ok().and_then(DateTime::from_timestamp_micros)?;
        Some((at, number.parse().ok()?))
    });
    place.ok_or_else(|| {
        Problem::new(Kind::BadRequest, "cursor is not one that a page of this list named").with("param", "cursor")
    })
}
