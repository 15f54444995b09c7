//! Request lines, and whether results are those of their requests.

use std::fmt::Write;

use serde_json::{Value, json};

/// The messages of request `n` as they stand in its body, byte for byte.
pub fn messages(n: usize) -> String {
    format!(r#"[{{"role":"user","content":"question {n}"}}]"#)
}

/// A chat request's body.
pub fn chat_body(model: &str, n: usize) -> String {
    format!(r#"{{"model":"{model}","messages":{}}}"#, messages(n))
}

/// A body that Tollway takes and the simulated provider refuses.
pub const REFUSED_CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hi"}],"stream_options":5}"#;

/// A line around a body.
pub fn line(custom_id: &str, url: &str, body: &str) -> String {
    format!("{{\"custom_id\":\"{custom_id}\",\"method\":\"POST\",\"url\":\"{url}\",\"body\":{body}}}\n")
}

/// Chat request `n` of route `chat`, with custom_id `line-<n>`.
pub fn chat_line(n: usize) -> String {
    line(&format!("line-{n}"), "/v1/chat/completions", &chat_body("chat", n))
}

/// Chat requests 1 to `count`.
pub fn chat(count: usize) -> String {
    (1..=count).map(chat_line).collect()
}

/// Chat requests 1 to `count` of this route, with answers of at most a thousand tokens: see [`crate::Simulator::answers_long`].
pub fn long_chat(model: &str, count: usize) -> String {
    let body = |n: usize| format!(r#"{{"model":"{model}","max_tokens":1000,"messages":{}}}"#, messages(n));
    (1..=count).map(|n| line(&format!("line-{n}"), "/v1/chat/completions", &body(n))).collect()
}

/// Embedding request `n` of route `embed`: two texts. `more` goes into its body, with a comma before it.
pub fn embedding_line(n: usize, more: &str) -> String {
    let body = format!(r#"{{"model":"embed","input":["text {n}","and {n}"]{more}}}"#);
    line(&format!("line-{n}"), "/v1/embeddings", &body)
}

/// The lines of a JSONL answer.
#[track_caller]
pub fn parse_lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Fails the test unless this is the successful result of chat request `n`.
#[track_caller]
pub fn assert_answers(result: &Value, n: usize) {
    assert_eq!(result["custom_id"], json!(format!("line-{n}")));
    assert_eq!(result["error"], Value::Null, "{result}");
    let content = result["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    assert!(content.starts_with(&simulator::chat_echo(&messages(n))), "the answer of another request: {result}");
}

/// The numbers in custom ids `line-<n>`, in the order of the results.
pub fn numbers(results: &[Value]) -> Vec<usize> {
    let number = |result: &Value| result["custom_id"].as_str()?.strip_prefix("line-")?.parse().ok();
    results.iter().map(|result| number(result).unwrap_or_else(|| panic!("{result}"))).collect()
}

/// A JSON body with these requests and what is said of the job.
pub fn json_body(job: &Value, lines: &str) -> String {
    let mut body = format!("{{\"job\":{job},\"requests\":[");
    for (at, line) in lines.lines().enumerate() {
        let _ = write!(body, "{}{line}", if at > 0 { "," } else { "" });
    }
    body + "]}"
}
