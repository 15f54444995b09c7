//! What an answer says it is. Servers and proxies say it wrongly, so a type that names nothing is no reason to refuse a paid answer.

use reqwest::{Response, header::CONTENT_TYPE};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    Events,
    /// None, `text/plain` or `application/octet-stream`: it is what it can be read as.
    Untold,
    /// A page, an image, XML: an answer of somebody else.
    Other(String),
}

impl ContentType {
    pub fn of(response: &Response) -> Self {
        let header = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        Self::read(header)
    }

    fn read(header: Option<&str>) -> Self {
        let essence = header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "" | "text/plain" | "application/octet-stream" | "binary/octet-stream" => Self::Untold,
            events if events.contains("event-stream") => Self::Events,
            json if json.contains("json") => Self::Json,
            _ => Self::Other(essence.chars().filter(char::is_ascii_graphic).take(64).collect()),
        }
    }

    /// As an error names it.
    pub fn name(&self) -> &str {
        match self {
            Self::Json => "JSON",
            Self::Events => "text/event-stream",
            Self::Untold => "of no telling content type",
            Self::Other(essence) => essence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_leniently() {
        let other = |essence: &str| ContentType::Other(essence.to_owned());
        for (header, expected) in [
            (None, ContentType::Untold),
            (Some("text/plain; charset=utf-8"), ContentType::Untold),
            (Some("application/octet-stream"), ContentType::Untold),
            (Some("Application/JSON"), ContentType::Json),
            (Some("application/problem+json"), ContentType::Json),
            (Some("text/event-stream;charset=utf-8"), ContentType::Events),
            (Some("text/html"), other("text/html")),
            (Some("a\tb/\u{7f}c"), other("ab/c")),
        ] {
            assert_eq!(ContentType::read(header), expected, "{header:?}");
        }
    }
}
