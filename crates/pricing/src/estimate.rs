//! What a call can cost at most: what is reserved before it starts.

use domain::Money;
pub use domain::line::DEFAULT_MAX_OUTPUT;

use crate::{price::Price, rate::Class};

/// The most that a call costs which stays within these counts, rounded nowhere; `Money(i64::MAX)` when it is beyond any money.
///
/// - Input counts at its dearest: all of it could be written to the provider's cache. Sound and images do not count apart: the bounds
///   by which they are estimated have more tokens than they have.
/// - `max_output_tokens` is the request's own limit, of all its choices together; without one [`DEFAULT_MAX_OUTPUT`]. It includes
///   reasoning.
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
