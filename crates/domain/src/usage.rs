//! Token counts of one attempt, disjoint: a token is counted in exactly one field. `None` is "not reported", 0 is a reported zero.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported the counts.
    #[default]
    Provider,
    /// Counted by Tollway because the provider said nothing.
    Estimated,
}

impl UsageSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Usage {
    /// Input tokens that came from no cache.
    pub input_uncached: Option<i64>,
    pub cache_read: Option<i64>,
    pub cache_write_5m: Option<i64>,
    pub cache_write_1h: Option<i64>,
    pub input_audio: Option<i64>,
    pub input_image: Option<i64>,
    /// Output the caller sees, without reasoning.
    pub output_text: Option<i64>,
    pub output_reasoning: Option<i64>,
    pub output_audio: Option<i64>,
    pub source: UsageSource,
}

impl Usage {
    /// Counts that Tollway made itself from the request and what came back.
    pub fn estimated(input: i64, output: i64) -> Self {
        Self {
            input_uncached: Some(input),
            output_text: Some(output),
            source: UsageSource::Estimated,
            ..Self::default()
        }
    }

    /// Input and output, as limits in tokens count them. `None` when neither was reported.
    pub fn total(&self) -> Option<i64> {
        total(&[self.prompt_total(), self.output_text, self.output_reasoning])
    }

    /// All input tokens: what decides the price tier. `None` when no input count was reported.
    pub fn prompt_total(&self) -> Option<i64> {
        let parts = [
            self.input_uncached,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.input_audio,
            self.input_image,
        ];
        total(&parts)
    }

    pub fn output_total(&self) -> Option<i64> {
        total(&[self.output_text, self.output_reasoning, self.output_audio])
    }
}

fn total(parts: &[Option<i64>]) -> Option<i64> {
    parts.iter().flatten().copied().reduce(i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreported_is_not_zero() {
        assert_eq!(Usage::default().prompt_total(), None);
        let usage = Usage { input_uncached: Some(0), cache_read: Some(7), ..Usage::default() };
        assert_eq!(usage.prompt_total(), Some(7));
        assert_eq!(usage.output_total(), None);
    }
}
