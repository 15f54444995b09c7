//! What a call can cost at most: what is reserved before it starts.

use domain::Money;

use crate::{price::Price, rate::Class};

/// Output tokens assumed of a request that names no maximum. The list does not say how much a model can write, so this is
/// more than nearly every answer has; a model whose context is smaller is held to that.
pub const DEFAULT_MAX_OUTPUT: i64 = 32_768;

/// The most that a call costs which stays within these counts, rounded nowhere; `Money(i64::MAX)` when it is beyond any money.
///
/// - Input counts at its dearest: all of it could be written to the provider's cache. Audio and images do not count apart:
///   `est_input_tokens` is made from bytes, of which they have far more than tokens.
/// - `max_output_tokens` is the request's own limit; without one [`DEFAULT_MAX_OUTPUT`]. It includes reasoning.
/// - A class without a price counts nothing: its charge will be unpriced. Embeddings have no output and no price for it.
pub fn estimate(price: &Price, est_input_tokens: i64, max_output_tokens: Option<i64>) -> Money {
    let input = est_input_tokens.max(0);
    let unlimited = || price.context.map_or(DEFAULT_MAX_OUTPUT, |context| context.min(DEFAULT_MAX_OUTPUT));
    let output = max_output_tokens.unwrap_or_else(unlimited).max(0);
    let dearest = |classes: &[Class]| {
        let rates = classes.iter().filter_map(|class| price.rate(*class, input));
        i128::from(rates.max().unwrap_or(0))
    };
    let most = i128::from(input) * dearest(&[Class::Input, Class::CacheRead, Class::CacheWrite5m, Class::CacheWrite1h])
        + i128::from(output) * dearest(&[Class::Output, Class::Reasoning, Class::OutputAudio])
        + dearest(&[Class::Request]);
    Money::from_pico(most).unwrap_or(Money(i64::MAX))
}
