//! How fast lines are read, beside two passes of derived structs over each. Not run by default:
//! `cargo test -p wire speed -- --ignored --nocapture`.

use std::{borrow::Cow, hint::black_box, time::Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::RequestLine;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stream: Option<bool>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

fn two_passes(line: &[u8]) -> usize {
    let outer: Outer<'_> = serde_json::from_slice(line).unwrap();
    let body: Body<'_> = serde_json::from_str(outer.body.get()).unwrap();
    let of = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
    let said = body.max_tokens.is_some() | body.max_completion_tokens.is_some() | body.stream.is_some();
    outer.custom_id.len()
        + outer.method.len()
        + outer.url.len()
        + body.model.len()
        + of(body.messages)
        + of(body.input)
        + usize::from(said)
}

fn one_pass(line: &[u8]) -> usize {
    let line = RequestLine::parse(line).unwrap();
    line.custom_id.len() + line.call.model.len() + line.call.input.text_bytes
}

/// Nanoseconds a line, the best of five rounds.
fn measure(line: &[u8], read: fn(&[u8]) -> usize) -> f64 {
    let rounds = (0..5).map(|_| {
        let count = (20_000_000 / line.len()).max(20);
        let started = Instant::now();
        for _ in 0..count {
            black_box(read(black_box(line)));
        }
        started.elapsed().as_nanos() as f64 / count as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement"]
fn one_pass_against_two() {
    let words = |bytes: usize| "lorem ipsum dolor sit amet consectetur ".repeat(bytes / 39 + 1)[..bytes].to_owned();
    let line = |url: &str, body: String| {
        format!(r#"{{"custom_id":"doc-1","method":"POST","url":"/v1/{url}","body":{body}}}"#).into_bytes()
    };
    let embed = |input: String| line("embeddings", format!(r#"{{"model":"e5","input":{input}}}"#));
    let chat = |text: &str| {
        let body = format!(r#"{{"model":"chat","max_tokens":9,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        line("chat/completions", body)
    };
    let tokens: Vec<String> = (0..2_000).map(|n| (n * 37 % 100_000).to_string()).collect();
    for (name, line) in [
        ("embed_100", embed(format!("\"{}\"", words(100)))),
        ("embed_1k", embed(format!("\"{}\"", words(1_000)))),
        ("embed_16_texts", embed(format!("[{}]", vec![format!("\"{}\"", words(200)); 16].join(",")))),
        ("embed_tokens", embed(format!("[{}]", tokens.join(",")))),
        ("chat_1k", chat(&words(1_000))),
        ("chat_lines", chat(&vec![words(70); 60].join("\\n"))),
        ("chat_unicode", chat(&"größer 漢字 ".repeat(200))),
        ("chat_1m", chat(&words(1_000_000))),
    ] {
        let (before, now) = (measure(&line, two_passes), measure(&line, one_pass));
        println!("{name}: {:.2} times as fast, {before:.0} ns before, {now:.0} ns now", before / now);
    }
}
