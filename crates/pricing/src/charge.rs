//! Usage × price: the cost columns of a ledger row.

use std::sync::Arc;

use domain::{Money, Usage, UsageSource, ledger::PriceStatus, money::MoneyError};

use crate::{
    price::Price,
    rate::{Class, Rates},
};

/// Cost of one attempt. When the status is `Unpriced`, all is null; else `contracted_cost` is the sum of the five components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Input text that came from no cache.
    pub input: Option<Money>,
    pub cache_read: Option<Money>,
    /// Both lifetimes.
    pub cache_write: Option<Money>,
    /// Text and reasoning.
    pub output: Option<Money>,
    /// Audio in and out, images in, a fee per call.
    pub other: Option<Money>,
    /// At the provider's list price; differs from `contracted_cost` only where an own price replaces a listed one, and is null
    /// when the list then lacks a class of tokens.
    pub list_cost: Option<Money>,
    /// What the call costs.
    pub contracted_cost: Option<Money>,
    /// Had the cached tokens, read and written, been plain input.
    pub cost_if_uncached: Option<Money>,
    /// Had the call not been in the provider's batch.
    pub cost_if_not_batch: Option<Money>,
    pub price_version: Option<Arc<str>>,
    pub status: PriceStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// Nothing to price: charging it would make the call free.
    #[error("the usage has no input count; estimate it before charging")]
    InputUnreported,
    #[error("the usage has a negative count of {0:?} tokens; treat it as not reported")]
    NegativeCount(Class),
    #[error(transparent)]
    Money(#[from] MoneyError),
}

impl Charge {
    /// No price is known.
    pub fn unpriced() -> Self {
        Self::of(None, None, PriceStatus::Unpriced)
    }

    /// The provider takes no money for this attempt, such as one that it refused.
    pub fn not_billable() -> Self {
        Self::of(Some(Money::ZERO), None, PriceStatus::Priced)
    }

    /// Nobody knows what the attempt used: it costs what was reserved for it, under `other`.
    pub fn held(reserved: Money) -> Self {
        let amounts = Self::of(Some(Money::ZERO), None, PriceStatus::Estimated);
        let all = Some(reserved);
        Self {
            other: all,
            list_cost: all,
            contracted_cost: all,
            cost_if_uncached: all,
            cost_if_not_batch: all,
            ..amounts
        }
    }

    fn of(each: Option<Money>, price_version: Option<Arc<str>>, status: PriceStatus) -> Self {
        Self {
            input: each,
            cache_read: each,
            cache_write: each,
            output: each,
            other: each,
            list_cost: each,
            contracted_cost: each,
            cost_if_uncached: each,
            cost_if_not_batch: each,
            price_version,
            status,
        }
    }
}

/// Prices the usage. Counts that are not reported cost nothing, but there must be an input count. A class of tokens with a count
/// and no price makes the whole charge unpriced.
///
/// Rates are whole pico-USD per token, so each component is exact; nothing is left to round.
pub fn charge(price: &Price, usage: &Usage) -> Result<Charge, ChargeError> {
    let Some(parts) = parts(&price.rates, usage)? else { return Ok(Charge::unpriced()) };
    let total = parts.total()?;
    let total_at = |rates: &Option<Rates>| match rates {
        Some(rates) => self::parts(rates, usage)?.map(|parts| parts.total()).transpose(),
        None => Ok(Some(total)),
    };
    let guessed = usage.source != UsageSource::Provider || !price.exact || price.guesses(usage);
    Ok(Charge {
        input: Some(parts.input),
        cache_read: Some(parts.cache_read),
        cache_write: Some(parts.cache_write),
        output: Some(parts.output),
        other: Some(parts.other),
        list_cost: total_at(&price.list)?,
        contracted_cost: Some(total),
        cost_if_uncached: self::parts(&price.rates, &uncached(usage))?.map(|parts| parts.total()).transpose()?,
        cost_if_not_batch: total_at(&price.not_batch)?,
        price_version: Some(price.version.clone()),
        status: if guessed { PriceStatus::Estimated } else { PriceStatus::Priced },
    })
}

struct Parts {
    input: Money,
    cache_read: Money,
    cache_write: Money,
    output: Money,
    other: Money,
}

impl Parts {
    fn total(&self) -> Result<Money, ChargeError> {
        let parts = [self.input, self.cache_read, self.cache_write, self.output, self.other];
        Ok(parts.into_iter().try_fold(Money::ZERO, Money::checked_add)?)
    }
}

/// None when a class of tokens has a count and no price.
fn parts(rates: &Rates, usage: &Usage) -> Result<Option<Parts>, ChargeError> {
    let prompt_total = usage.prompt_total().ok_or(ChargeError::InputUnreported)?;
    let mut priced = true;
    let mut sum = |counts: &[(Class, Option<i64>)]| -> Result<Money, ChargeError> {
        let mut pico = 0i128;
        for (class, count) in counts {
            match (count.unwrap_or(0), rates.get(*class, prompt_total)) {
                (0, _) => {}
                (..0, _) => return Err(ChargeError::NegativeCount(*class)),
                (_, None) => priced = false,
                (count, Some(rate)) => pico += i128::from(count) * i128::from(rate),
            }
        }
        Ok(Money::from_pico(pico)?)
    };
    let fee = rates.get(Class::Request, prompt_total).map(|_| 1);
    let parts = Parts {
        input: sum(&[(Class::Input, usage.input_uncached)])?,
        cache_read: sum(&[(Class::CacheRead, usage.cache_read)])?,
        cache_write: sum(&[(Class::CacheWrite5m, usage.cache_write_5m), (Class::CacheWrite1h, usage.cache_write_1h)])?,
        output: sum(&[(Class::Output, usage.output_text), (Class::Reasoning, usage.output_reasoning)])?,
        other: sum(&[
            (Class::InputAudio, usage.input_audio),
            (Class::InputImage, usage.input_image),
            (Class::OutputAudio, usage.output_audio),
            (Class::Request, fee),
        ])?,
    };
    Ok(priced.then_some(parts))
}

/// The same prompt, all of its text plain input.
fn uncached(usage: &Usage) -> Usage {
    let text = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
    let input_uncached = text.into_iter().flatten().reduce(i64::saturating_add);
    Usage { input_uncached, cache_read: None, cache_write_5m: None, cache_write_1h: None, ..*usage }
}
