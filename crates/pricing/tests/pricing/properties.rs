use domain::{Money, Usage};
use pricing::{Charge, Price, Processing, Terms, charge, estimate};
use proptest::{prelude::*, sample::select};

use crate::{price, usage};

const MODELS: &[(&str, &str)] = &[
    ("openai", "gpt-6.1-sol"),
    ("openai", "o3"),
    ("openai", "gpt-audio"),
    ("anthropic", "claude-opus-5-5"),
    ("anthropic", "claude-haiku-5-5"),
    ("google", "gemini-4-argon"),
    ("google", "gemini-2.5-pro"),
    ("azure", "gpt-6.1-terra"),
    ("perplexity", "sonar"),
];

fn prices() -> impl Strategy<Value = Price> {
    let times = select(&["2026-10-01T00:00:00Z", "2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z"][..]);
    let tiers = select(&[None, Some("default"), Some("flex"), Some("priority"), Some("unheard-of")][..]);
    let ways = select(&[Processing::Sync, Processing::ProviderBatch][..]);
    (select(MODELS), times, tiers, ways).prop_map(|((provider, model), time, service_tier, processing)| {
        price(provider, model, time, Terms { processing, service_tier })
    })
}

/// Reported counts, some of them not; around the thresholds of the tiers too.
fn usages() -> impl Strategy<Value = Usage> {
    let count = || prop_oneof![Just(0i64), 0..2_000i64, 90_000..300_000i64];
    let known = || proptest::option::weighted(0.8, count());
    (count(), [known(), known(), known(), known(), known(), known(), known(), known()]).prop_map(|(input, rest)| {
        let [
            cache_read,
            cache_write_5m,
            cache_write_1h,
            input_audio,
            input_image,
            output_text,
            output_reasoning,
            output_audio,
        ] = rest;
        Usage {
            cache_read,
            cache_write_5m,
            cache_write_1h,
            input_audio,
            input_image,
            output_text,
            output_reasoning,
            output_audio,
            ..usage([input, 0, 0, 0, 0, 0, 0, 0, 0])
        }
    })
}

fn components(cost: &Charge) -> [Option<Money>; 5] {
    [cost.input, cost.cache_read, cost.cache_write, cost.output, cost.other]
}

proptest! {
    #[test]
    fn the_total_is_the_sum_of_its_components(price in prices(), usage in usages()) {
        let cost = charge(&price, &usage).unwrap();
        let sum: i128 = components(&cost).iter().flatten().map(|part| i128::from(part.pico())).sum();
        prop_assert_eq!(cost.contracted_cost.map(|total| i128::from(total.pico())), Some(sum));
        prop_assert!(components(&cost).iter().all(|part| part.is_some_and(|part| part >= Money::ZERO)));
    }

    #[test]
    fn more_tokens_never_cost_less(price in prices(), less in usages(), field in 0..9usize, more in 1..300_000i64) {
        let mut greater = less;
        let fields = [
            &mut greater.input_uncached, &mut greater.cache_read, &mut greater.cache_write_5m, &mut greater.cache_write_1h,
            &mut greater.input_audio, &mut greater.input_image, &mut greater.output_text, &mut greater.output_reasoning,
            &mut greater.output_audio,
        ];
        for (number, count) in fields.into_iter().enumerate() {
            if number == field {
                *count = Some(count.unwrap_or(0) + more);
            }
        }
        let cost = |usage| charge(&price, usage).unwrap().contracted_cost.unwrap();
        prop_assert!(cost(&less) < cost(&greater));
    }

    #[test]
    fn caches_and_batches_are_compared_with_the_right_thing(price in prices(), usage in usages()) {
        let plain = Usage { cache_read: None, cache_write_5m: None, cache_write_1h: None, ..usage };
        let cost = charge(&price, &plain).unwrap();
        prop_assert_eq!(cost.cost_if_uncached, cost.contracted_cost);
        prop_assert!(cost.cost_if_not_batch >= cost.contracted_cost);
    }

    /// The reservation holds whatever the provider does with caches, reasoning and speech.
    #[test]
    fn no_text_call_costs_more_than_its_estimate(price in prices(), usage in usages(), slack in 0..1_000i64) {
        let text = Usage { input_audio: None, input_image: None, ..usage };
        let most = estimate(&price, text.prompt_total().unwrap() + slack, Some(text.output_total().unwrap_or(0) + slack));
        prop_assert!(charge(&price, &text).unwrap().contracted_cost.unwrap() <= most);
    }
}
