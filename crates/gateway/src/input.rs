//! Reading requests: bodies within limits of size and time, queries and path ids, each with a problem that says what is
//! wrong.

use std::{borrow::Cow, fmt::Display, str::FromStr, time::Duration};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use tokio::time::Instant;

use crate::problem::{Kind, Problem};

/// The largest JSON body of an administrative request.
pub const SMALL: usize = 64 << 10;
/// The longest silence inside a body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A whole body of at most `limit` bytes, and as fast as [`body_deadline`] asks for. One that came in one piece is not copied.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut pieces = Pieces::new(body);
    let announced = usize::try_from(pieces.announced()).unwrap_or(usize::MAX);
    pieces.deadline = Some(Instant::now() + body_deadline(if announced == 0 { limit } else { announced.min(limit) }));
    read_pieces(pieces, limit).await
}

/// How long a body of this size that is held in memory may take: half a minute, and a second for each 64 KiB.
fn body_deadline(bytes: usize) -> Duration {
    BODY_IDLE_TIMEOUT + Duration::from_millis((bytes as u64) * 1000 / (64 << 10))
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
    parse_json(&read_body(body, SMALL).await?)
}

/// A JSON object as `T`. What is wrong is named with the field that it is in, the value that came and those that may.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
        return Err(bad("The body: it must be a JSON object, {…}.".to_owned()));
    }
    if holds_nul(bytes) {
        return Err(bad(
            "The body: a string contains the character NUL (\\u0000), which cannot be stored; remove it.".into()
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, reason) = (error.path().to_string(), in_words(error.inner()));
        // What is wrong with the object as a whole has the path ".".
        if path == "." {
            bad(format!("The body: {reason}."))
        } else {
            bad(format!("{path}: {reason}.")).with("param", path)
        }
    })?;
    reader.end().map_err(|error| bad(format!("The body: {error}.")))?;
    Ok(value)
}

/// Whether a string of this JSON holds `\u0000`. A raw NUL is no JSON at all.
fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        // The escaped character may be a backslash itself.
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// serde's message with Rust's number types as ranges.
fn in_words(error: &serde_json::Error) -> String {
    const RANGES: [(&str, i128, i128); 8] = [
        ("u8", 0, u8::MAX as i128),
        ("u16", 0, u16::MAX as i128),
        ("u32", 0, u32::MAX as i128),
        ("u64", 0, u64::MAX as i128),
        ("i8", i8::MIN as i128, i8::MAX as i128),
        ("i16", i16::MIN as i128, i16::MAX as i128),
        ("i32", i32::MIN as i128, i32::MAX as i128),
        ("i64", i64::MIN as i128, i64::MAX as i128),
    ];
    let said = error.to_string();
    for (name, least, most) in RANGES {
        if let Some((before, after)) = said.split_once(&format!("expected {name}"))
            && !after.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return format!("{before}expected a whole number from {least} to {most}{after}");
        }
    }
    said
}

/// A body, piece by piece.
pub struct Pieces {
    /// `None` at its end.
    rest: Option<BodyDataStream>,
    silence: Duration,
    /// For all of it.
    deadline: Option<Instant>,
}

impl Pieces {
    pub fn new(body: Body) -> Self {
        Self { rest: Some(body.into_data_stream()), silence: BODY_IDLE_TIMEOUT, deadline: None }
    }

    /// Bytes that will come at least, as far as the head said.
    fn announced(&self) -> u64 {
        self.rest.as_ref().map_or(0, |rest| rest.size_hint().lower())
    }

    /// The next bytes; `None` at the end. A silence that is too long, or a connection that broke, is a problem.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let silent = Instant::now() + self.silence;
        let until = self.deadline.map_or(silent, |deadline| deadline.min(silent));
        match tokio::time::timeout_at(until, rest.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => {
                self.rest = None;
                Ok(None)
            }
            Ok(Some(Err(error))) => {
                self.rest = None;
                Err(Problem::new(Kind::BadRequest, format_args!("The body broke off: {error}.")))
            }
            Err(_) if until < silent => {
                self.rest = None;
                Err(Problem::new(Kind::Timeout, "The body came in too slowly; send it all at once."))
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
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| bad_query(&error.body_text()))?;
        Ok(Self(params))
    }
}

/// The extractor's sentence, without its introduction; the parameter's name stands before the first colon, if there is one.
fn bad_query(said: &str) -> Problem {
    let reason = said.trim_start_matches("Failed to deserialize query string: ");
    let problem = Problem::new(Kind::BadRequest, format_args!("The query: {reason}."));
    match reason.split_once(": ") {
        Some((name, _)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => problem.with("param", name),
        _ => problem,
    }
}

/// A whole number of a query, from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const LEAST: i64, const MOST: i64>(pub i64);

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.parse() {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => {
                let text = brief(&text);
                Err(D::Error::custom(format_args!("{text:?} is not a whole number from {LEAST} to {MOST}")))
            }
        }
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
pub fn brief(text: &str) -> String {
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

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(default)]
        weight: i16,
        #[serde(default)]
        parts: Vec<u64>,
    }

    fn refusal(json: &str) -> (String, serde_json::Value) {
        let problem = parse_json::<Sample>(json.as_bytes()).unwrap_err();
        assert_eq!(problem.kind, Kind::BadRequest, "{json}");
        (problem.detail, problem.members.get("param").cloned().unwrap_or_default())
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let range = "expected a whole number from -32768 to 32767";
        for value in ["32768", "-32769", "1e30", "1.5", "99999999999999999999", "-1e-9", "null", "\"5\""] {
            let (detail, param) = refusal(&format!(r#"{{"name":"n","weight":{value}}}"#));
            assert!(detail.starts_with("weight: ") && detail.contains(range), "{detail}");
            assert_eq!(param, "weight");
        }
        let (detail, param) = refusal(r#"{"name":"n","parts":[1,-1]}"#);
        assert!(detail.contains("`-1`, expected a whole number from 0 to 18446744073709551615"), "{detail}");
        assert_eq!(param, "parts[1]");
    }

    #[test]
    fn a_nul_in_any_string_is_refused() {
        for json in [r#"{"name":"a\u0000"}"#, r#"{"name":"\\\u0000"}"#, r#"{"na\u0000me":"a"}"#, "{\"name\":\"a\0\"}"] {
            refusal(json);
        }
        let escaped = parse_json::<Sample>(br#"{"name":"\\u0000"}"#).unwrap();
        assert_eq!(escaped.name, r"\u0000", "six characters, none of them NUL");
    }

    #[test]
    fn only_an_object_is_taken() {
        for json in ["", "null", "7", r#"["n",1,[]]"#, "{", r#"{"name":"n"} {}"#, r#"{"name":"n","x":1}"#] {
            refusal(json);
        }
        assert!(refusal(r#" ["n",1,[]]"#).0.contains("must be a JSON object"));
    }

    #[test]
    fn a_number_of_a_query_is_refused_with_its_name_and_range() {
        #[derive(Debug, Deserialize)]
        struct Asked {
            limit: Option<Whole<1, 200>>,
        }
        let read = |query: &str| Query::<Asked>::try_from_uri(&format!("/?{query}").parse().unwrap());
        assert_eq!(read("limit=200").unwrap().0.limit, Some(Whole(200)));
        for value in ["0", "201", "-1", "1.5", "1e3", "99999999999999999999", "x", ""] {
            let problem = bad_query(&read(&format!("limit={value}")).unwrap_err().body_text());
            assert_eq!(problem.members["param"], "limit");
            let expected = format!("The query: limit: {value:?} is not a whole number from 1 to 200.");
            assert_eq!(problem.detail, expected);
        }
    }

    #[tokio::test]
    async fn a_silent_body_is_given_up() {
        let mut body = Pieces::new(Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()));
        body.silence = Duration::from_millis(20);
        assert_eq!(read_pieces(body, 8).await.unwrap_err().kind, Kind::Timeout);
    }

    /// Never silent, and never done.
    #[tokio::test]
    async fn a_dripping_body_is_given_up_at_its_deadline() {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        let mut body = Pieces::new(Body::from_stream(drops));
        body.deadline = Some(Instant::now() + Duration::from_millis(50));
        assert_eq!(read_pieces(body, 1 << 20).await.unwrap_err().kind, Kind::Timeout);
    }

    #[test]
    fn a_larger_body_may_take_longer() {
        assert_eq!(body_deadline(100).as_secs(), 30);
        assert_eq!(body_deadline(8 << 20).as_secs(), 30 + 128);
    }
}
