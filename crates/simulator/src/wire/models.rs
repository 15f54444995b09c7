//! `GET /v1/models`.

use serde_json::{Value, json};

pub fn body(models: &[String]) -> Vec<u8> {
    let data: Vec<Value> = models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}))
        .collect();
    json!({"object": "list", "data": data}).to_string().into_bytes()
}
