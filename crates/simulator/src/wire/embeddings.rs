//! The answer to an embedding request.

use super::request::{EmbeddingRequest, Encoding};
use super::{push, push_string};
use crate::deployment::Plan;
use crate::vectors::vectors;

/// A whole list of embeddings.
pub fn body(request: &EmbeddingRequest<'_>, prompt_tokens: u64, plan: &Plan) -> Vec<u8> {
    let vectors = match request.dimensions() {
        Some(dimensions) if dimensions != plan.config.embedding_dimensions => vectors(dimensions),
        _ => plan.vectors.clone(),
    };
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (index, &print) in request.prints().iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        push(&mut out, format_args!(r#"{comma}{{"object":"embedding","index":{index},"embedding":"#));
        match request.encoding() {
            Encoding::Float => vectors.write_json(print, &mut out),
            Encoding::Base64 => vectors.write_base64(print, &mut out),
        }
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"model":"#);
    push_string(&mut out, &request.model);
    push(&mut out, format_args!(r#","usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{prompt_tokens}}}}}"#));
    out
}
