//! Reports, computed by a child process out of the lake.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use chrono::{Datelike, NaiveDate};
use engine::admit::{Permission, Scope};
use serde::Deserialize;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Params, parse},
    problem::{Kind, Problem},
};

/// Ledger rows of the report's days that are in no file of the lake yet, and so are not in the report.
const BEHIND: &str = "x-tollway-lake-behind";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpendParams {
    by: Option<String>,
    from: Option<String>,
    to: Option<String>,
    team: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Parquet,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

pub async fn spend(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Params(params): Params<SpendParams>,
) -> Result<Response, Problem> {
    let own = match caller.scope(Permission::ReadSpend) {
        Scope::All => None,
        Scope::Team(_) => Some(&*caller.team),
    };
    let format = params.format;
    let args = arguments(&params, own)?;
    // Before the child reads the manifest: a row that is exported in between counts as missing rather than as present.
    let (from, to) = days(&params, app.engine.clock.now().date_naive())?;
    let behind = store::export_segment::unexported(&mut *app.engine.pools.api.acquire().await?, from, to).await?;
    let body = app.children.run(caller.team_id, args).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (HeaderName::from_static(BEHIND), HeaderValue::from(behind.rows)),
    ];
    Ok((headers, body).into_response())
}

/// The first and the last day, as the command has them when they are left out.
fn days(params: &SpendParams, today: NaiveDate) -> Result<(NaiveDate, NaiveDate), Problem> {
    let day = |name, given: &Option<String>| given.as_deref().map(|day| parse::<NaiveDate>(name, day)).transpose();
    let to = day("to", &params.to)?.unwrap_or(today);
    let first = to.with_day(1).unwrap_or(to);
    Ok((day("from", &params.from)?.unwrap_or(first), to))
}

/// What the child is run with. A key that sees one team only gets that team, whatever it asks for; each value is joined to
/// its name, so that none can be taken for another option.
fn arguments(params: &SpendParams, own: Option<&str>) -> Result<Vec<String>, Problem> {
    let mut args = vec!["report".to_owned(), "spend".to_owned(), format!("--output={}", params.format.word())];
    if let Some(by) = &params.by {
        let fits =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
        if !by.split(',').all(fits) {
            let detail = "by is a list of dimensions such as team,feature,model.";
            return Err(Problem::new(Kind::BadRequest, detail).with("param", "by"));
        }
        args.push(format!("--by={by}"));
    }
    for (name, day) in [("from", &params.from), ("to", &params.to)] {
        if let Some(day) = day {
            args.push(format!("--{name}={}", parse::<NaiveDate>(name, day)?));
        }
    }
    let team = match (own, params.team.as_deref()) {
        (Some(own), Some(asked)) if own != asked => return Err(Problem::not_found(format_args!("team {asked:?}"))),
        (own, asked) => own.or(asked),
    };
    args.extend(team.map(|team| format!("--team={team}")));
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, own: Option<&str>, expected: Result<&str, Kind>) {
        let uri = format!("/?{query}").parse().unwrap();
        let params = axum::extract::Query::<SpendParams>::try_from_uri(&uri).unwrap().0;
        let got = arguments(&params, own).map(|args| args.join(" ")).map_err(|problem| problem.kind);
        assert_eq!(got, expected.map(str::to_owned), "{query}");
    }

    #[test]
    fn a_query_becomes_a_command() {
        check("", None, Ok("report spend --output=json"));
        check(
            "by=team,model&from=2026-11-01&to=2026-11-30&team=chat&format=parquet",
            None,
            Ok("report spend --output=parquet --by=team,model --from=2026-11-01 --to=2026-11-30 --team=chat"),
        );
        check("by=team,%20--config", None, Err(Kind::BadRequest));
        check("from=yesterday", None, Err(Kind::BadRequest));
    }

    #[test]
    fn days_that_are_left_out_are_those_of_this_month() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let days = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            let params = axum::extract::Query::<SpendParams>::try_from_uri(&uri).unwrap().0;
            super::days(&params, day("2026-11-22")).unwrap()
        };
        assert_eq!(days(""), (day("2026-11-01"), day("2026-11-22")));
        assert_eq!(days("to=2026-10-05"), (day("2026-10-01"), day("2026-10-05")));
        assert_eq!(days("from=2026-01-02"), (day("2026-01-02"), day("2026-11-22")));
    }

    #[test]
    fn a_key_of_one_team_sees_that_team() {
        check("by=team", Some("search"), Ok("report spend --output=json --by=team --team=search"));
        check("team=search", Some("search"), Ok("report spend --output=json --team=search"));
        check("team=chat", Some("search"), Err(Kind::NotFound));
    }
}
