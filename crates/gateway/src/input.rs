//! Reading requests: bodies within limits of size and time, queries and path ids, each with a problem that says what is
//! wrong.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// The largest JSON body of an administrative request.
pub const SMALL: usize = 64 << 10;
/// The longest silence inside a body.
const BODY_SILENCE: Duration = Duration::from_secs(30);

/// A whole body of at most `limit` bytes. One that came in one piece is not copied.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    read_pieces(Pieces::new(body), limit).await
}

async fn read_pieces(mut body: Pieces, limit: usize) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(Kind::TooLarge, format_args!("At most {limit} bytes are taken here.")).with("limit", limit);
    let announced = body.announced();
    if announced > limit as u64 {
        return Err(too_large());
    }
    let Some(first) = body.next().await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(too_large());
    }
    let Some(second) = body.next().await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity((announced as usize).max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(part) = next {
        if whole.len() + part.len() > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&part);
        next = body.next().await?;
    }
    Ok(whole.freeze())
}

/// A small JSON body.
pub async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = read_body(body, SMALL).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Kind::BadRequest, format_args!("The body: {error}.")))
}

/// A body, piece by piece.
pub struct Pieces {
    /// `None` at its end.
    rest: Option<BodyDataStream>,
    silence: Duration,
}

impl Pieces {
    pub fn new(body: Body) -> Self {
        Self { rest: Some(body.into_data_stream()), silence: BODY_SILENCE }
    }

    /// Bytes that will come at least, as far as the head said.
    fn announced(&self) -> u64 {
        self.rest.as_ref().map_or(0, |rest| rest.size_hint().lower())
    }

    /// The next bytes; `None` at the end. A silence that is too long, or a connection that broke, is a problem.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        match tokio::time::timeout(self.silence, rest.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => {
                self.rest = None;
                Ok(None)
            }
            Ok(Some(Err(error))) => {
                self.rest = None;
                Err(Problem::new(Kind::BadRequest, format_args!("The body broke off: {error}.")))
            }
            Err(_) => {
                self.rest = None;
                Err(Problem::new(Kind::Timeout, format_args!("The body was silent for {:?}.", self.silence)))
            }
        }
    }
}

/// Extracts the query; an unknown parameter is an error when `T` says so.
pub struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(params) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(Kind::BadRequest, format_args!("The query: {}.", error.body_text())))?;
        Ok(Self(params))
    }
}

/// Extracts the path's only parameter. One that is no id at all names nothing that exists.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(Kind::BadRequest, error.body_text()))?;
        text.parse().map(Self).map_err(|_| Problem::not_found(format_args!("{:?}", brief(&text))))
    }
}

/// A parameter's text as a value of its type.
pub fn parse<T: FromStr<Err: Display>>(name: &'static str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::new(Kind::BadRequest, format_args!("{name}: {error}.")).with("param", name))
}

/// As much of a caller's text as an error may repeat.
fn brief(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn in_parts(parts: &[&'static str]) -> Body {
        let parts: Vec<_> = parts.iter().map(|part| Ok::<_, Infallible>(Bytes::from_static(part.as_bytes()))).collect();
        Body::from_stream(futures::stream::iter(parts))
    }

    async fn check(body: Body, expected: Result<&str, Kind>) {
        let got = read_body(body, 8).await.map_err(|problem| problem.kind);
        assert_eq!(got, expected.map(|text| Bytes::from(text.to_owned())));
    }

    #[tokio::test]
    async fn bodies_are_taken_up_to_the_limit() {
        check(Body::empty(), Ok("")).await;
        check(Body::from("12345678"), Ok("12345678")).await;
        check(in_parts(&["1234", "56", "78"]), Ok("12345678")).await;
        check(Body::from("123456789"), Err(Kind::TooLarge)).await;
        check(in_parts(&["123456789"]), Err(Kind::TooLarge)).await;
        check(in_parts(&["1234", "56", "789"]), Err(Kind::TooLarge)).await;
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let sent = Bytes::from_static(b"12345678");
        let got = read_body(Body::from(sent.clone()), 8).await.unwrap();
        assert_eq!(got.as_ptr(), sent.as_ptr());
    }

    #[tokio::test]
    async fn a_silent_body_is_given_up() {
        let mut body = Pieces::new(Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()));
        body.silence = Duration::from_millis(20);
        assert_eq!(read_pieces(body, 8).await.unwrap_err().kind, Kind::Timeout);
    }
}
