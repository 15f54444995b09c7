//! One output line: `{"id","custom_id","response":{"status_code","request_id","body"},"error"}`.

use bytes::Bytes;
use domain::{Endpoint, JobId, RequestId};
use providers::{Vectors, render_embeddings};
use serde_json::value::RawValue;
use store::result::{ResultRow, Unfinished};

use super::derived::Why;

/// Of a stored result.
pub fn stored(job: JobId, row: &ResultRow, out: &mut Vec<u8>) {
    head(RequestId { job, line: row.line }, &row.custom_id, out);
    match (row.status_code, &row.body) {
        // Refused connections and the like have no answer.
        (None, None) if !row.ok => out.extend_from_slice(b"null"),
        _ => {
            out.extend_from_slice(b"{\"status_code\":");
            json(&row.status_code, out);
            out.extend_from_slice(b",\"request_id\":");
            json(&row.request_id, out);
            out.extend_from_slice(b",\"body\":");
            body(row, out);
            out.push(b'}');
        }
    }
    if row.ok {
        out.extend_from_slice(b",\"error\":null}\n");
    } else {
        let code = row.error_class.as_deref().unwrap_or("unknown");
        error(code, row.error_message.as_deref().unwrap_or("the request failed"), out);
    }
}

/// Of a request that has no result and will get none.
pub fn derived(job: JobId, line: &Unfinished, why: Why, out: &mut Vec<u8>) {
    head(RequestId { job, line: line.line }, &line.custom_id, out);
    out.extend_from_slice(b"null");
    match why {
        Why::Cancelled => error("batch_cancelled", "the job was cancelled before this request ran", out),
        Why::Expired => error("batch_expired", "the job's deadline passed before this request ran", out),
    }
}

fn head(id: RequestId, custom_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(id.to_string().as_bytes());
    out.extend_from_slice(b"\",\"custom_id\":");
    json(&custom_id, out);
    out.extend_from_slice(b",\"response\":");
}

fn error(code: &str, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"error\":{\"code\":");
    json(&code, out);
    out.extend_from_slice(b",\"message\":");
    json(&message, out);
    out.extend_from_slice(b"}}\n");
}

fn json<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, nor can texts and numbers.
    let _ = serde_json::to_writer(out, value);
}

/// The answer as the provider gave it, on one line.
fn body(row: &ResultRow, out: &mut Vec<u8>) {
    let Some(text) = &row.body else {
        out.extend_from_slice(b"null");
        return;
    };
    let start = out.len();
    match vectors(row) {
        Some(vectors) => render_embeddings(text.as_bytes(), &vectors, row.base64, out),
        // What a provider says of an error need not be JSON.
        None if !row.ok && serde_json::from_str::<&RawValue>(text).is_err() => json(text, out),
        None => out.extend_from_slice(text.as_bytes()),
    }
    // In JSON a raw line end stands only between tokens, where a space may take its place.
    for byte in &mut out[start..] {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// The numbers of an embedding's answer, which are stored apart from it.
pub fn vectors(row: &ResultRow) -> Option<Vectors> {
    let data = row.vectors.as_ref().filter(|_| row.endpoint == Endpoint::Embeddings.code())?;
    let dims = u32::try_from(row.dims?).ok().filter(|dims| *dims > 0)?;
    let count = u32::try_from(data.len() / 4 / dims as usize).ok()?;
    Some(Vectors { dims, count, data: Bytes::from(data.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const JOB: JobId = JobId(7_528_000_000_000_000_001);

    fn row(ok: bool) -> ResultRow {
        ResultRow {
            line: 3,
            custom_id: "a \"quoted\" id".into(),
            ok,
            status_code: Some(200),
            request_id: Some("req-1".into()),
            endpoint: Endpoint::ChatCompletions.code(),
            body: Some("{\n  \"choices\": [\"a\\nb\"]\r\n}".into()),
            vectors: None,
            dims: None,
            base64: false,
            error_class: None,
            error_message: None,
        }
    }

    fn check(row: &ResultRow, expected: Value) {
        let mut out = Vec::new();
        stored(JOB, row, &mut out);
        assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1), "one line");
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    #[test]
    fn an_answer_is_given_as_it_came() {
        check(
            &row(true),
            json!({"id": format!("{}", RequestId { job: JOB, line: 3 }), "custom_id": "a \"quoted\" id",
                   "response": {"status_code": 200, "request_id": "req-1", "body": {"choices": ["a\nb"]}}, "error": null}),
        );
    }

    #[test]
    fn embeddings_get_their_numbers_back() {
        let floats: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|f| f.to_le_bytes()).collect();
        let row = ResultRow {
            endpoint: Endpoint::Embeddings.code(),
            body: Some(r#"{"data":[{"index":0,"embedding":0}]}"#.into()),
            vectors: Some(floats),
            dims: Some(2),
            ..row(true)
        };
        let mut out = Vec::new();
        stored(JOB, &row, &mut out);
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["response"]["body"], json!({"data": [{"index": 0, "embedding": [0.5, -2.0]}]}));
        let base64 = ResultRow { base64: true, ..row };
        let mut out = Vec::new();
        stored(JOB, &base64, &mut out);
        assert!(String::from_utf8(out).unwrap().contains(r#""embedding":"AAAAPwAAAMA=""#));
    }

    #[test]
    fn a_failure_says_why() {
        let failed = ResultRow {
            status_code: Some(400),
            body: Some("<html>\nno</html>".into()),
            error_class: Some("invalid_request".into()),
            error_message: Some("too long".into()),
            ..row(false)
        };
        check(
            &failed,
            json!({"id": format!("{}", RequestId { job: JOB, line: 3 }), "custom_id": "a \"quoted\" id",
                   "response": {"status_code": 400, "request_id": "req-1", "body": "<html>\nno</html>"},
                   "error": {"code": "invalid_request", "message": "too long"}}),
        );
        let silent = ResultRow { status_code: None, body: None, request_id: None, ..failed };
        check(
            &silent,
            json!({"id": format!("{}", RequestId { job: JOB, line: 3 }), "custom_id": "a \"quoted\" id", "response": null,
                   "error": {"code": "invalid_request", "message": "too long"}}),
        );
    }
}
