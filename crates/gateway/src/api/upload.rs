//! An upload: its body, its format, and the parameters of the job.

use std::{io, ops::RangeInclusive, str::FromStr};

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use domain::{Tags, job::JobParams};
use engine::submit::{Format, Submission};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::{
    input::{Pieces, brief, parse},
    problem::{Kind, Problem},
};

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

/// What is submitted, or quoted.
pub fn submission(
    query: &SubmitParams,
    headers: &HeaderMap,
    body: Body,
) -> Result<Submission<impl AsyncRead + Unpin + Send + use<>>, Problem> {
    Ok(Submission {
        params: from_headers(headers)?.overridden_by(query.read()?),
        idempotency_key: header(headers, "idempotency-key")?.map(str::to_owned),
        format: format(headers)?,
        body: StreamReader::new(Box::pin(bytes(body))),
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
            priority: whole("priority", self.priority.as_ref(), -100..=100)?,
            deadline: value("deadline", self.deadline.as_ref())?,
            start_at: value("start_at", self.start_at.as_ref())?,
            after: value("after", self.after.as_ref())?,
            max_attempts: whole("max_attempts", self.max_attempts.as_ref(), 1..=100)?,
            max_cost: value("max_cost", self.max_cost.as_ref())?,
            webhook: self.webhook.clone(),
        })
    }
}

/// One that is a whole number and out of its range is refused with the other figures of the job.
fn whole(name: &'static str, text: Option<&String>, range: RangeInclusive<i16>) -> Result<Option<i16>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => {
            let (least, most, shown) = (range.start(), range.end(), brief(text));
            let detail = format_args!("{name}: {shown:?} is not a whole number from {least} to {most}.");
            Err(Problem::new(Kind::BadRequest, detail).with("param", name))
        }
    }
}

fn from_headers(headers: &HeaderMap) -> Result<JobParams, Problem> {
    let text = |name: &'static str| Ok::<_, Problem>(header(headers, name)?.map(str::to_owned));
    let params = SubmitParams {
        name: text("x-tollway-name")?,
        lane: text("x-tollway-lane")?,
        tags: None,
        priority: text("x-tollway-priority")?,
        deadline: text("x-tollway-deadline")?,
        start_at: text("x-tollway-start-at")?,
        after: text("x-tollway-after")?,
        max_attempts: text("x-tollway-max-attempts")?,
        max_cost: text("x-tollway-max-cost")?,
        webhook: text("x-tollway-webhook")?,
        dry_run: false,
    };
    Ok(JobParams { tags: tags(headers)?.unwrap_or_default(), ..params.read()? })
}

/// The header `x-tollway-tags`, of jobs and of calls.
pub fn tags(headers: &HeaderMap) -> Result<Option<Tags>, Problem> {
    let name = "x-tollway-tags";
    let tags = headers.get(name).map(|value| Tags::from_header(value.as_bytes())).transpose();
    tags.map_err(|error| Problem::new(Kind::BadRequest, format_args!("{name}: {error}.")).with("param", name))
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

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
        let params = from_header.unwrap().overridden_by(query.read().unwrap());
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
            ("priority", SubmitParams { priority: Some("99999999999999999999".into()), ..SubmitParams::default() }),
            ("max_attempts", SubmitParams { max_attempts: Some("1.5".into()), ..SubmitParams::default() }),
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
}
