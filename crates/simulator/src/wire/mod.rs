//! OpenAI's wire format: what is read from a request, and the bodies of answers.

pub mod chat;
pub mod embeddings;
pub mod models;
pub mod refusal;
pub mod request;
pub mod schema;
pub mod shape;
pub mod shaped;
pub mod stream;

use std::io::Write;

/// Appends `text` as a JSON string. Names that need no escapes, nearly all, are copied.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory cannot fail, nor can a string fail to serialize.
        let _ = serde_json::to_writer(out, text);
    }
}

/// Appends formatted text.
pub fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
