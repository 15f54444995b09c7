//! Which form errors have: ours, or that of the SDK that a caller uses.

pub mod anthropic;
pub mod openai;

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use crate::problem::Problem;

/// Which form errors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Native,
    OpenAi,
    Anthropic,
}

impl Surface {
    pub fn of(path: &str) -> Self {
        if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else if path.starts_with("/v1/") {
            Self::OpenAi
        } else {
            Self::Native
        }
    }

    /// A path of no API has the form that the caller's SDK reads.
    pub fn of_request(path: &str, headers: &HeaderMap) -> Self {
        let is_ours = ["/api/", "/livez", "/readyz", "/metrics"].iter().any(|start| path.starts_with(start));
        let surface = Self::of(path);
        if is_ours || surface != Self::Native {
            return surface;
        }
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let names = |sdk: &str| agent.split_once('/').is_some_and(|(name, _)| name.trim_start_matches("Async") == sdk);
        if headers.contains_key("anthropic-version") || names("Anthropic") {
            Self::Anthropic
        } else if headers.contains_key("x-stainless-lang") || names("OpenAI") {
            Self::OpenAi
        } else {
            Self::Native
        }
    }

    pub fn refuse(self, problem: Problem) -> Response {
        match self {
            Self::Native => problem.into_response(),
            Self::OpenAi => openai::Failure(problem).into_response(),
            Self::Anthropic => anthropic::Failure(problem).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_that_the_callers_sdk_reads() {
        let of = |path: &str, headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            Surface::of_request(path, &headers)
        };
        assert_eq!(of("/chat/completions", &[]), Surface::Native);
        assert_eq!(of("/chat/completions", &[("user-agent", "OpenAI/Python 2.8.1")]), Surface::OpenAi);
        assert_eq!(of("/chat/completions", &[("user-agent", "AsyncOpenAI/Python 2.8.1")]), Surface::OpenAi);
        assert_eq!(of("/messages", &[("user-agent", "Anthropic/JS 0.60.0")]), Surface::Anthropic);
        assert_eq!(of("/messages", &[("anthropic-version", "2023-06-01")]), Surface::Anthropic);
        assert_eq!(of("/v1/messages", &[]), Surface::Anthropic);
        assert_eq!(of("/v1/files", &[("user-agent", "curl/8.5.0")]), Surface::OpenAi);
        assert_eq!(of("/api/v1/jobs", &[("user-agent", "OpenAI/JS 6.0.0")]), Surface::Native);
    }
}
