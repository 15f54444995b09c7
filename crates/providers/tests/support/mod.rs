//! What both test binaries send.

use domain::Deployment;

pub const PROMPT: &str = "the prompt nobody may log";

pub fn deployment(base_url: &str) -> Deployment {
    serde_json::from_value(serde_json::json!({"kind": "openai", "base_url": base_url, "model": "m"})).unwrap()
}

pub fn chat_body() -> String {
    format!(r#"{{"model":"route","messages":[{{"role":"user","content":"{PROMPT}"}}]}}"#)
}

pub fn stream_body() -> String {
    chat_body().replacen('{', r#"{"stream":true,"#, 1)
}
