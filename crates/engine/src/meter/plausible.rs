//! Plausibility of reported usage. Counts that are too low for the answer are replaced by an estimate. Counts above what the request and the
//! model allow are booked at that bound and marked `implausible`, so that one broken counter cannot empty a budget.

use domain::{Usage, UsageSource, line::estimate_tokens};

/// No text in any language has longer tokens on average; only runs of blanks do.
const MOST_BYTES_A_TOKEN: i64 = 64;
/// The estimate assumes four bytes a token, and a token has at least one byte. The rest of the factor covers tokens that the provider
/// adds: templates, tool prompts, several tokens for a rare character.
const MOST_ABOVE_ESTIMATE: i64 = 16;
/// Tokens of images and documents that the request names by URL: its bytes do not tell their size.
const MEDIA: i64 = 32_768;
/// Output of a model whose context is not known, when the request names no maximum.
const UNKNOWN_CONTEXT: i64 = 131_072;
/// How far output may exceed the request's maximum: some servers do not count reasoning towards it.
const MOST_ABOVE_MAXIMUM: i64 = 2;
const PAST_MAXIMUM: i64 = 256;

/// The call, as far as Tollway knows it without the provider's counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub est_in: i64,
    /// The request's own maximum of output.
    pub max_out: Option<i64>,
    /// Tokens that the model takes.
    pub context: Option<i64>,
    /// Answers that came back.
    pub choices: u32,
    /// Visible output that came back.
    pub output_bytes: usize,
}

impl Seen {
    /// The usage as Tollway counts it.
    pub fn estimated(&self) -> Usage {
        Usage::estimated(self.est_in, estimate_tokens(self.output_bytes))
    }

    fn most_input(&self) -> i64 {
        let by_bytes = self.est_in.saturating_mul(MOST_ABOVE_ESTIMATE).saturating_add(MEDIA);
        // The price list's context may be out of date, so twice of it is allowed.
        let by_model = self.context.map_or(i64::MAX, |context| context.saturating_mul(2));
        by_bytes.min(by_model.max(self.est_in.saturating_mul(2)))
    }

    fn most_output(&self) -> i64 {
        let of_one = match self.max_out {
            Some(most) => most.saturating_mul(MOST_ABOVE_MAXIMUM).saturating_add(PAST_MAXIMUM),
            None => self.context.unwrap_or(UNKNOWN_CONTEXT),
        };
        let by_request = of_one.saturating_mul(i64::from(self.choices.max(1)));
        // A server may ignore the maximum. Text that arrived was written, and a token has at least one byte.
        by_request.max(i64::try_from(self.output_bytes).unwrap_or(i64::MAX))
    }
}

/// `reported`, or what stands for it.
pub(super) fn judged(reported: Usage, seen: &Seen) -> Usage {
    let bytes = i64::try_from(seen.output_bytes).unwrap_or(i64::MAX);
    // Zero tokens have no bytes, and others not many.
    if reported.output_total().is_some_and(|tokens| bytes > tokens.saturating_mul(MOST_BYTES_A_TOKEN)) {
        return seen.estimated();
    }
    let usage = match reported.prompt_total() {
        // No request is empty.
        None | Some(..=0) if seen.est_in > 0 => Usage {
            input_uncached: Some(seen.est_in),
            cache_read: None,
            cache_write_5m: None,
            cache_write_1h: None,
            input_audio: None,
            input_image: None,
            source: UsageSource::Estimated,
            ..reported
        },
        _ => reported,
    };
    at_most(usage, seen)
}

fn at_most(mut usage: Usage, seen: &Seen) -> Usage {
    let (most_in, most_out) = (seen.most_input(), seen.most_output());
    if usage.prompt_total().is_some_and(|tokens| tokens > most_in) {
        usage = Usage {
            input_uncached: Some(most_in),
            cache_read: None,
            cache_write_5m: None,
            cache_write_1h: None,
            input_audio: None,
            input_image: None,
            source: UsageSource::Implausible,
            ..usage
        };
    }
    if usage.output_total().is_some_and(|tokens| tokens > most_out) {
        usage = Usage {
            output_text: Some(most_out),
            output_reasoning: None,
            output_audio: None,
            source: UsageSource::Implausible,
            ..usage
        };
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEEN: Seen = Seen { est_in: 100, max_out: Some(50), context: None, choices: 1, output_bytes: 160 };

    fn reported(input: i64, output: i64) -> Usage {
        Usage { input_uncached: Some(input), output_text: Some(output), ..Usage::default() }
    }

    #[test]
    fn zeros_beside_an_answer_are_no_usage() {
        let text = Seen { output_bytes: 2_400, ..SEEN };
        assert_eq!(judged(reported(0, 0), &text), Usage::estimated(100, 600));
        assert_eq!(judged(reported(90, 0), &text), Usage::estimated(100, 600));
        assert_eq!(judged(reported(90, 3), &text), Usage::estimated(100, 600), "no tokens are that long");
        let without_input = judged(reported(0, 500), &text);
        assert_eq!((without_input.prompt_total(), without_input.output_total()), (Some(100), Some(500)));
        assert_eq!(without_input.source, UsageSource::Estimated);
    }

    #[test]
    fn an_answer_without_words_may_cost_no_output() {
        let empty = Seen { output_bytes: 0, ..SEEN };
        assert_eq!(judged(reported(90, 0), &empty), reported(90, 0));
        let embedded = Usage { input_uncached: Some(7), ..Usage::default() };
        assert_eq!(judged(embedded, &empty), embedded);
        assert_eq!(judged(Usage { input_uncached: Some(0), ..embedded }, &empty).source, UsageSource::Estimated);
    }

    #[test]
    fn what_no_call_can_use_is_booked_at_the_most_it_can() {
        let huge = judged(reported(9_000_000_000, 9_000_000_000), &SEEN);
        assert_eq!((huge.prompt_total(), huge.output_total()), (Some(100 * 16 + 32_768), Some(50 * 2 + 256)));
        assert_eq!(huge.source, UsageSource::Implausible);
        let in_cache = Usage { cache_read: Some(i64::MAX), output_reasoning: Some(i64::MAX), ..reported(5, 5) };
        let bounded = judged(in_cache, &SEEN);
        assert_eq!(
            (bounded.cache_read, bounded.output_reasoning, bounded.source),
            (None, None, UsageSource::Implausible)
        );
        let small = Seen { context: Some(4_096), ..SEEN };
        assert_eq!(judged(reported(9_000_000_000, 5), &small).prompt_total(), Some(8_192));
    }

    #[test]
    fn what_a_request_allows_is_taken_as_it_is() {
        for (usage, seen) in [
            (reported(90, 50), SEEN),
            (reported(30_000, 50), SEEN),
            (reported(90, 5_000), Seen { choices: 100, ..SEEN }),
            (reported(90, 30_000), Seen { max_out: None, ..SEEN }),
            (reported(90, 2_000), Seen { output_bytes: 8_000, ..SEEN }),
        ] {
            assert_eq!(judged(usage, &seen), usage, "{seen:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_booked_beyond_what_can_be_meant_and_what_can_be_is_not_touched(
            counts in proptest::collection::vec(proptest::option::of(prop_oneof![0..500i64, any::<i64>().prop_map(|n| n.max(0))]), 9),
            est_in in 1..1_000_000i64, max_out in proptest::option::of(0..1_000_000i64), context in proptest::option::of(1..2_000_000i64),
            choices in 0..200u32, output_bytes in 0..5_000_000usize,
        ) {
            let seen = Seen { est_in, max_out, context, choices, output_bytes };
            let reported = Usage {
                input_uncached: counts[0], cache_read: counts[1], cache_write_5m: counts[2], cache_write_1h: counts[3],
                input_audio: counts[4], input_image: counts[5], output_text: counts[6], output_reasoning: counts[7],
                output_audio: counts[8], source: UsageSource::Provider,
            };
            let booked = judged(reported, &seen);
            prop_assert!(booked.prompt_total().is_some_and(|tokens| tokens > 0 && tokens <= seen.most_input()));
            prop_assert!(booked.output_total().unwrap_or(0) <= seen.most_output());
            prop_assert_eq!(booked.source == UsageSource::Provider, booked == reported);
            prop_assert_eq!(judged(booked, &seen), booked, "once judged, it stays");
        }
    }
}
