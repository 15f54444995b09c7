//! Token counts of one attempt, disjoint: a token is counted in exactly one field. `None` is "not reported", 0 is a reported zero.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported the counts.
    #[default]
    Provider,
    /// Counted by Tollway because the provider said nothing, or nothing that can be meant.
    Estimated,
    /// The provider reported more than the call can have used; the counts are the most that it can.
    Implausible,
}

impl UsageSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::Implausible => "implausible",
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

    /// Of two calls to a provider that are one attempt.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input_uncached: sum(self.input_uncached, other.input_uncached),
            cache_read: sum(self.cache_read, other.cache_read),
            cache_write_5m: sum(self.cache_write_5m, other.cache_write_5m),
            cache_write_1h: sum(self.cache_write_1h, other.cache_write_1h),
            input_audio: sum(self.input_audio, other.input_audio),
            input_image: sum(self.input_image, other.input_image),
            output_text: sum(self.output_text, other.output_text),
            output_reasoning: sum(self.output_reasoning, other.output_reasoning),
            output_audio: sum(self.output_audio, other.output_audio),
            source: self.source,
        }
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

fn sum(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    total(&[a, b])
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
