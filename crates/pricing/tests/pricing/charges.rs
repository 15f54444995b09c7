use domain::{Money, Usage, UsageSource, ledger::PriceStatus};
use pricing::{Charge, ChargeError, Class, DEFAULT_MAX_OUTPUT, PriceList, Terms, Unpriced, charge, estimate};

use crate::{NOW, at, batch, price, tier, usage};

fn usd(money: Option<Money>) -> String {
    money.unwrap().to_string()
}

#[test]
fn each_component_goes_into_its_column() {
    let price = price("anthropic", "claude-opus-5-5", NOW, Terms::sync());
    let cost = charge(&price, &usage([1_000, 2_000, 300, 40, 0, 0, 500, 50, 0])).unwrap();
    assert_eq!(usd(cost.input), "0.004");
    assert_eq!(usd(cost.cache_read), "0.0004");
    assert_eq!(usd(cost.cache_write), "0.00182");
    assert_eq!(usd(cost.output), "0.011");
    assert_eq!(usd(cost.other), "0.00");
    assert_eq!(usd(cost.contracted_cost), "0.01722");
    assert_eq!(cost.list_cost, cost.contracted_cost);
    assert_eq!(cost.cost_if_not_batch, cost.contracted_cost);
    assert_eq!(usd(cost.cost_if_uncached), "0.02436");
    assert_eq!(cost.price_version.as_deref(), Some(PriceList::shipped_version()));
    assert_eq!(cost.status, PriceStatus::Priced);
}

#[test]
fn a_batch_says_what_it_would_have_cost_outside() {
    let price = price("openai", "o3", NOW, batch());
    let cost = charge(&price, &usage([1_000_000, 1_000_000, 0, 0, 0, 0, 1_000_000, 0, 0])).unwrap();
    assert_eq!(usd(cost.contracted_cost), "5.50");
    assert_eq!(usd(cost.cost_if_not_batch), "10.50");
    assert_eq!(usd(cost.cost_if_uncached), "6.00");
}

#[test]
fn audio_images_and_fees_per_call_are_other() {
    let spoken = price("openai", "gpt-audio", NOW, Terms::sync());
    let cost = charge(&spoken, &usage([0, 0, 0, 0, 1_000, 0, 0, 0, 1_000])).unwrap();
    let rate = |class| spoken.rate(class, 1_000).unwrap();
    assert!(rate(Class::InputAudio) > rate(Class::Input) && rate(Class::OutputAudio) > rate(Class::Output));
    assert_eq!(cost.other.unwrap().pico(), 1_000 * (rate(Class::InputAudio) + rate(Class::OutputAudio)));
    assert_eq!(cost.other, cost.contracted_cost);

    let sonar = price("perplexity", "sonar", NOW, Terms::sync());
    let fee = sonar.rate(Class::Request, 0).unwrap();
    let cost = charge(&sonar, &usage([10, 0, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert!(fee > 0 && cost.other.unwrap().pico() == fee);
}

#[test]
fn what_is_estimated_says_so() {
    let status = |price: &pricing::Price, usage: Usage| charge(price, &usage).unwrap().status;
    let listed = price("openai", "gpt-6.1-sol", NOW, Terms::sync());
    assert_eq!(status(&listed, Usage::estimated(10, 20)), PriceStatus::Estimated);
    let stand_in = price("openai", "gpt-6.1-sol", NOW, tier("scale"));
    let reported = Usage { source: UsageSource::Provider, ..Usage::estimated(10, 20) };
    assert_eq!(status(&stand_in, reported), PriceStatus::Estimated);
}

#[test]
fn what_has_no_price_is_unpriced_and_never_zero() {
    let list = PriceList::shipped();
    let unpriced =
        |provider, model| list.resolve(provider, model).and_then(|model| model.at(at(NOW), Terms::sync())).unwrap_err();
    assert!(matches!(unpriced("nowhere", "gpt-4o"), Unpriced::UnknownProvider { .. }));
    assert!(matches!(unpriced("openai", "gpt-0"), Unpriced::UnknownModel { .. }));
    // Priced by the hour; called free by the list's source.
    assert!(matches!(unpriced("openai", "whisper-1"), Unpriced::NoTokenPrice { .. }));
    assert!(matches!(unpriced("openrouter", "qwen3-14b:free"), Unpriced::NoTokenPrice { .. }));
    assert!(unpriced("openai", "gpt-0").to_string().contains("[[prices]]"));

    let embedding = price("openai", "text-embedding-3-small", NOW, Terms::sync());
    let cost = charge(&embedding, &usage([10, 0, 0, 0, 0, 0, 1, 0, 0])).unwrap();
    assert_eq!(cost, Charge::unpriced());
    assert_eq!((cost.contracted_cost, cost.other, cost.status), (None, None, PriceStatus::Unpriced));
}

#[test]
fn usage_that_cannot_be_charged_is_an_error() {
    let price = price("openai", "gpt-6.1-sol", NOW, Terms::sync());
    let none = Usage { output_text: Some(10), ..Usage::default() };
    assert_eq!(charge(&price, &none), Err(ChargeError::InputUnreported));
    let negative = usage([10, -1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(charge(&price, &negative), Err(ChargeError::NegativeCount(Class::CacheRead)));
    let absurd = usage([i64::MAX, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(charge(&price, &absurd), Err(ChargeError::Money(_))));
}

#[test]
fn attempts_without_usage_have_their_own_charges() {
    let refused = Charge::not_billable();
    assert_eq!((refused.contracted_cost, refused.status), (Some(Money::ZERO), PriceStatus::Priced));
    let lost = Charge::held(Money(7));
    assert_eq!(
        (lost.other, lost.contracted_cost, lost.status),
        (Some(Money(7)), Some(Money(7)), PriceStatus::Estimated)
    );
}

#[test]
fn an_estimate_is_the_dearest_way() {
    let opus = price("anthropic", "claude-opus-5-5", NOW, Terms::sync());
    assert_eq!(estimate(&opus, 1_000_000, Some(1_000_000)).to_string(), "28.00");
    assert_eq!(estimate(&opus, 0, None).pico(), DEFAULT_MAX_OUTPUT * 20_000_000);
    assert_eq!(estimate(&opus, i64::MAX, Some(i64::MAX)), Money(i64::MAX));
    let small_context = price("openai", "gpt-4", NOW, Terms::sync());
    assert_eq!(estimate(&small_context, 0, None).pico(), 8_192 * 60_000_000);
    let embedding = price("openai", "text-embedding-3-small", NOW, Terms::sync());
    assert_eq!(estimate(&embedding, 1_000_000, None).to_string(), "0.02");
}
