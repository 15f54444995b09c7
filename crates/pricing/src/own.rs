//! Own prices of the operator, `[[prices]]`: for own models and for negotiated ones.

use std::{collections::HashMap, sync::Arc};

use chrono::NaiveDate;
use domain::{Money, catalog::OwnPrice};
use sha2::{Digest, Sha256};

use crate::rate::{Class, Rate, Rates};

/// An entry of `[[prices]]` that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[[prices]] for {provider:?} {model:?}: {flaw}")]
pub struct BadPrice {
    pub provider: String,
    pub model: String,
    pub flaw: Flaw,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("give figures or free = true, not both")]
    FreeWithFigures,
    #[error("give at least `input`, in USD per million tokens, or free = true if it costs nothing")]
    NoInput,
    #[error("{field} = {given:?} is not USD per million tokens, with at most six decimals")]
    NotAnAmount { field: &'static str, given: String },
    #[error("{field} = {given:?} is negative")]
    Negative { field: &'static str, given: String },
    #[error("{field} is zero; a model that costs nothing says free = true, and one without {field} leaves it out")]
    Zero { field: &'static str },
    #[error("two prices begin on the same day")]
    SameDay,
}

/// The own prices of one model, the latest first.
#[derive(Debug, Default)]
pub(crate) struct OwnModel(Vec<Period>);

#[derive(Debug)]
pub(crate) struct Period {
    /// First UTC day; always, when absent.
    from: Option<NaiveDate>,
    pub(crate) rates: Rates,
    pub(crate) version: Arc<str>,
}

/// By provider and model, exactly as the deployment writes them.
pub(crate) type OwnPrices = HashMap<(String, String), Arc<OwnModel>>;

impl OwnModel {
    pub(crate) fn on(&self, day: NaiveDate) -> Option<&Period> {
        self.0.iter().find(|period| period.from.is_none_or(|from| day >= from))
    }

    pub(crate) fn first_day(&self) -> Option<NaiveDate> {
        self.0.last().and_then(|period| period.from)
    }
}

pub(crate) fn read(given: &[OwnPrice]) -> Result<OwnPrices, BadPrice> {
    let mut models: HashMap<(String, String), OwnModel> = HashMap::new();
    for price in given {
        let bad = |flaw| BadPrice { provider: price.provider.clone(), model: price.model.clone(), flaw };
        let period = Period { from: price.from, rates: rates(price).map_err(bad)?, version: version(price) };
        let OwnModel(periods) = models.entry((price.provider.clone(), price.model.clone())).or_default();
        if periods.iter().any(|other| other.from == period.from) {
            return Err(bad(Flaw::SameDay));
        }
        periods.push(period);
        periods.sort_by_key(|period| std::cmp::Reverse(period.from));
    }
    Ok(models.into_iter().map(|(name, model)| (name, Arc::new(model))).collect())
}

fn rates(price: &OwnPrice) -> Result<Rates, Flaw> {
    let figures = [
        ("input", Class::Input, &price.input),
        ("output", Class::Output, &price.output),
        ("cache_read", Class::CacheRead, &price.cache_read),
        ("cache_write", Class::CacheWrite, &price.cache_write),
    ];
    let mut rates = Rates::default();
    if price.free {
        if figures.iter().any(|(_, _, given)| given.is_some()) {
            return Err(Flaw::FreeWithFigures);
        }
        rates.set(Class::Input, Rate::flat(0));
        rates.set(Class::Output, Rate::flat(0));
        return Ok(rates);
    }
    for (field, class, given) in figures {
        if let Some(given) = given {
            rates.set(class, Rate::flat(pico_per_token(field, given)?));
        }
    }
    rates.get(Class::Input, 0).map(|_| rates.clone()).ok_or(Flaw::NoInput)
}

/// USD per million tokens → whole pico-USD per token.
fn pico_per_token(field: &'static str, given: &str) -> Result<i64, Flaw> {
    let not_an_amount = || Flaw::NotAnAmount { field, given: given.to_owned() };
    let per_million = given.parse::<Money>().map_err(|_| not_an_amount())?.pico();
    match per_million {
        0 => Err(Flaw::Zero { field }),
        ..0 => Err(Flaw::Negative { field, given: given.to_owned() }),
        _ if per_million % 1_000_000 != 0 => Err(not_an_amount()),
        _ => Ok(per_million / 1_000_000),
    }
}

/// A hash of the entry, so that a ledger row says by which figures it was priced.
fn version(price: &OwnPrice) -> Arc<str> {
    let text = serde_json::to_string(price).expect("strings, a date and a flag have a JSON form");
    let hash: String = Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("own-{hash}").into()
}
