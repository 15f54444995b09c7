//! The price of one call.

use std::sync::Arc;

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

    /// Pico-USD per token (per call for `Request`), for a prompt of this size; None when nothing says what this class costs.
    pub fn rate(&self, class: Class, prompt_total: i64) -> Option<i64> {
        self.rates.get(class, prompt_total)
    }
}
