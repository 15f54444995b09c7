//! What a request asks for, and what is assumed of its size.

use serde::{Deserialize, Serialize};

/// The longest line of a job and the largest synchronous body, in bytes, where `[server] max_body_mb` says nothing else.
pub const LONGEST_LINE: usize = 8 << 20;
/// Output tokens assumed of a request that names no maximum: more than nearly every answer has. A model whose context is smaller is
/// held to that.
pub const DEFAULT_MAX_OUTPUT: i64 = 32_768;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    ChatCompletions,
    Embeddings,
}

impl Endpoint {
    /// The path under a provider's base URL, and with `/v1` before it the `url` of a request line.
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Embeddings => "/embeddings",
        }
    }
    pub fn from_url(url: &str) -> Option<Self> {
        match url {
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            "/v1/embeddings" => Some(Self::Embeddings),
            _ => None,
        }
    }
    /// Stored as a smallint; numbers are never given again.
    pub fn code(self) -> i16 {
        match self {
            Self::ChatCompletions => 1,
            Self::Embeddings => 2,
        }
    }
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::ChatCompletions),
            2 => Some(Self::Embeddings),
            _ => None,
        }
    }
}

/// Input tokens guessed from bytes, rounded up: about four bytes a token in English JSON. Used before a call; the
/// provider's own count replaces it.
pub fn estimate_tokens(bytes: usize) -> i64 {
    i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX)
}
