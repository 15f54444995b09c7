//! How much a call may write.

use domain::line::DEFAULT_MAX_OUTPUT;

/// The largest maximum that a caller may set for one choice.
pub const MAX_OUTPUT: i64 = i32::MAX as i64;
/// The most choices that a caller may ask for; OpenAI takes as many.
pub const MAX_CHOICES: i64 = 128;
/// What one choice can write at most by a model of which nothing is known: more than any model writes.
pub const UNKNOWN_MAX_OUTPUT: i64 = 1 << 20;

/// What the body says of the answer's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// The most tokens of one choice; `None`: the body sets no maximum. Servers differ in which of several names they honour, so
    /// the largest counts.
    pub max: Option<i64>,
    /// Answers that are generated and charged: the larger of `n` and `best_of`.
    pub choices: i64,
}

impl Output {
    /// Of operations that write nothing, such as embeddings.
    pub const NONE: Self = Self { max: Some(0), choices: 1 };

    /// The most tokens of all choices together, by a model that writes at most `bound` in one. `None`: one choice without a maximum.
    /// Several choices without a maximum count [`DEFAULT_MAX_OUTPUT`] each. It fits into 32 bits.
    pub fn in_all(self, bound: i64) -> Option<i64> {
        let bound = bound.clamp(1, MAX_OUTPUT / MAX_CHOICES);
        let each = match self.max {
            None if self.choices <= 1 => return None,
            most => most.unwrap_or(DEFAULT_MAX_OUTPUT).clamp(0, bound),
        };
        Some(each * self.choices.clamp(1, MAX_CHOICES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_choices_count() {
        let all = |max, choices, bound| Output { max, choices }.in_all(bound);
        assert_eq!(all(Some(100), 1, 8_192), Some(100));
        assert_eq!(all(Some(100), 100, 8_192), Some(10_000));
        assert_eq!(all(None, 1, 8_192), None);
        assert_eq!(all(None, 3, 8_192), Some(24_576));
        assert_eq!(all(None, 3, 1 << 20), Some(3 * DEFAULT_MAX_OUTPUT));
        assert_eq!(Output::NONE.in_all(8_192), Some(0));
    }

    #[test]
    fn a_model_bounds_what_is_asked_for() {
        assert_eq!(Output { max: Some(MAX_OUTPUT), choices: 2 }.in_all(4_096), Some(8_192));
        let largest = Output { max: Some(i64::MAX), choices: i64::MAX }.in_all(i64::MAX).unwrap();
        assert!(i32::try_from(largest).is_ok());
        assert_eq!(Output { max: Some(9), choices: 1 }.in_all(0), Some(1));
    }
}
