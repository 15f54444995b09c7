//! The price of one call.

use std::sync::Arc;

use domain::Usage;

use crate::rate::{Class, Rates};

/// What each class of tokens costs in one call, with what the alternatives would cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub(crate) rates: Rates,
    /// The provider's list price, where an own price replaces it.
    pub(crate) list: Option<Rates>,
    /// The price outside the provider's batch, where the call is in one.
    pub(crate) not_batch: Option<Rates>,
    pub(crate) version: Arc<str>,
    pub(crate) exact: bool,
    pub(crate) context: Option<i64>,
    /// Declared by the operator, who names text and cached tokens only.
    pub(crate) is_own: bool,
}

impl Price {
    /// Which figures these are: `genai-prices-<version>-<hash>` or `own-<hash>`.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// False when the list has no price for this service tier, or none for batches, and the standard price stands in. A charge
    /// made with it says `estimated`.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether calls with output can be charged. An embeddings model has a price for input alone.
    pub fn covers_output(&self) -> bool {
        self.rates.get(Class::Output, 0).is_some()
    }

    /// Whether the text rate stands in for tokens of audio, which no `[[prices]]` entry names: providers charge a multiple of it.
    /// What is free is free for audio too.
    pub(crate) fn guesses(&self, usage: &Usage) -> bool {
        let counts = [(Class::InputAudio, usage.input_audio), (Class::OutputAudio, usage.output_audio)];
        let is_guess = |(class, count): &(Class, Option<i64>)| {
            count.unwrap_or(0) > 0 && self.rates.get(*class, 0).is_some_and(|rate| rate > 0)
        };
        self.is_own && counts.iter().any(is_guess)
    }

    /// Pico-USD per token (per call for `Request`), for a prompt of this size; None when nothing says what this class costs.
    pub fn rate(&self, class: Class, prompt_total: i64) -> Option<i64> {
        self.rates.get(class, prompt_total)
    }
}
