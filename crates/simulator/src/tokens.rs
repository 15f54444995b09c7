//! Token counts that anybody can recompute from sizes.

use serde::Serialize;

/// The prompt tokens billed for a request whose JSON body has `body_len` bytes: one for every four bytes begun.
///
/// It is the body as the simulator received it, so a gateway that rewrites the body (a model's name, `stream_options`)
/// changes the count. `GET /v1/models` has no body and costs nothing.
#[must_use]
pub fn prompt_tokens(body_len: usize) -> u64 {
    body_len.div_ceil(4) as u64
}

/// What one answer costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_for_every_four_bytes_begun() {
        assert_eq!([0, 1, 4, 5, 1_000].map(prompt_tokens), [0, 1, 1, 2, 250]);
    }
}
