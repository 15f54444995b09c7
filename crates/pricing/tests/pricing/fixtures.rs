//! Prices that are known by hand, in USD per million tokens: input, cache read, cache write (5 min), cache write (1 h), output.

use pricing::{Class, Processing, Terms};

use crate::{NOW, batch, price, tier};

const BEFORE: &str = "2026-11-30T23:59:59.999Z";
const AFTER: &str = "2026-12-01T00:00:00Z";

fn check(provider: &str, model: &str, time: &str, terms: Terms<'_>, prompt: i64, want: [f64; 5]) {
    let price = price(provider, model, time, terms);
    let classes = [Class::Input, Class::CacheRead, Class::CacheWrite5m, Class::CacheWrite1h, Class::Output];
    let got = classes.map(|class| price.rate(class, prompt).unwrap());
    let want = want.map(|usd| (usd * 1e6).round() as i64);
    assert_eq!(got, want, "{provider} {model} {time} {terms:?}, prompt of {prompt}");
}

#[test]
fn gpt_6_1_has_a_long_context_tier_batch_flex_and_priority() {
    let sol = |terms, prompt, want| check("openai", "gpt-6.1-sol", NOW, terms, prompt, want);
    sol(Terms::sync(), 272_000, [2., 0.1, 2.5, 2.5, 10.]);
    sol(Terms::sync(), 272_001, [4., 0.2, 5., 5., 15.]);
    sol(batch(), 1, [1., 0.05, 1.25, 1.25, 5.]);
    sol(batch(), 272_001, [2., 0.1, 2.5, 2.5, 7.5]);
    sol(tier("flex"), 1, [1., 0.05, 1.25, 1.25, 5.]);
    sol(tier("priority"), 1, [4., 0.2, 5., 5., 20.]);
    sol(tier("default"), 1, [2., 0.1, 2.5, 2.5, 10.]);
    let terra = |prompt, want| check("openai", "gpt-6.1-terra", NOW, Terms::sync(), prompt, want);
    terra(272_000, [1., 0.05, 1.25, 1.25, 5.]);
    terra(272_001, [2., 0.1, 2.5, 2.5, 7.5]);
}

#[test]
fn claude_has_two_cache_lifetimes_and_haiku_a_tier() {
    let claude = |model, terms, prompt, want| check("anthropic", model, NOW, terms, prompt, want);
    claude("claude-opus-5-5", Terms::sync(), 900_000, [4., 0.2, 5., 8., 20.]);
    claude("claude-opus-5-5", batch(), 1, [2., 0.1, 2.5, 4., 10.]);
    claude("claude-opus-5-5", tier("fast"), 1, [8., 0.4, 10., 16., 40.]);
    claude("claude-sonnet-5-5", Terms::sync(), 1, [2., 0.1, 2.5, 4., 10.]);
    claude("claude-haiku-5-5", Terms::sync(), 100_000, [0.1, 0.01, 0.125, 0.2, 0.5]);
    claude("claude-haiku-5-5", Terms::sync(), 100_001, [0.5, 0.05, 0.625, 1., 2.5]);
}

#[test]
fn gemini_4_argon_doubles_on_the_first_of_december() {
    let argon = |time, terms, want| check("google", "gemini-4-argon", time, terms, 1, want);
    argon(BEFORE, Terms::sync(), [2., 0.1, 2., 2., 10.]);
    argon(AFTER, Terms::sync(), [4., 0.2, 4., 4., 20.]);
    argon(BEFORE, batch(), [1., 0.05, 1., 1., 5.]);
    argon(AFTER, batch(), [2., 0.1, 2., 2., 10.]);
}

#[test]
fn batches_need_not_halve_everything() {
    check("openai", "o3", NOW, batch(), 1, [1., 0.5, 1., 1., 4.]);
    check("google", "gemini-2.5-pro", NOW, batch(), 1, [0.625, 0.125, 0.625, 0.625, 5.]);
    check("google", "gemini-3.1-pro-preview", NOW, batch(), 1, [1., 0.2, 1., 1., 6.]);
}

#[test]
fn a_price_that_is_not_listed_for_the_terms_is_the_standard_one_and_says_so() {
    let exact = |model, time, terms| price("google", model, time, terms).is_exact();
    assert!(exact("gemini-4-argon", NOW, batch()));
    // The list has no flex price of this model, and none for batches before they were verified.
    assert!(!exact("gemini-4-argon", NOW, tier("flex")));
    assert!(!exact("gemini-4-argon", "2026-10-13T00:00:00Z", batch()));
    check("google", "gemini-4-argon", NOW, tier("flex"), 1, [2., 0.1, 2., 2., 10.]);
    let both = Terms { processing: Processing::ProviderBatch, service_tier: Some("default") };
    assert!(price("openai", "gpt-6.1-sol", NOW, both).is_exact());
}

#[test]
fn a_reseller_has_the_standard_price_only() {
    check("azure", "claude-opus-5-5", NOW, batch(), 1, [4., 0.2, 5., 8., 20.]);
    assert!(!price("azure", "claude-opus-5-5", NOW, batch()).is_exact());
}

#[test]
fn the_hours_of_the_day_count_in_utc() {
    let input = |time| price("deepseek", "deepseek-chat", time, Terms::sync()).rate(Class::Input, 0).unwrap();
    assert_eq!(input("2026-11-22T02:29:59+02:00"), 135_000);
    assert_eq!(input("2026-11-22T02:30:00+02:00"), 270_000);
}
