//! The price list: shipped prices and the operator's own.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use domain::catalog::OwnPrice;

use crate::{
    model::{Known, PricedModel, Unpriced},
    own::{self, BadPrice, OwnPrices},
    price::Price,
    shipped::{Missing, SHIPPED},
    terms::{Processing, Terms},
};

/// Names that are remembered per list. Model names come out of providers' answers, so there is no end to them.
const REMEMBERED: usize = 4_096;

/// Finds prices. Share it behind an `Arc`; a changed catalogue makes a new one.
#[derive(Debug, Default)]
pub struct PriceList {
    own: OwnPrices,
    /// A provider can have a thousand rules to search, and the answer never changes.
    known: RwLock<HashMap<String, HashMap<String, PricedModel>>>,
}

/// One call whose price is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PriceQuery<'a> {
    /// The deployment's provider name.
    pub provider: &'a str,
    /// The model, as the provider names it.
    pub model: &'a str,
    pub processing: Processing,
    pub service_tier: Option<&'a str>,
}

impl PriceList {
    /// The prices inside the binary.
    pub fn shipped() -> Self {
        Self::default()
    }

    /// The same list with these own prices, in place of any it had. They win over shipped ones.
    pub fn with_own(&self, prices: &[OwnPrice]) -> Result<Self, BadPrice> {
        Ok(Self { own: own::read(prices)?, known: RwLock::default() })
    }

    /// Which figures the shipped prices are.
    pub fn shipped_version() -> &'static str {
        &SHIPPED.price_version
    }

    /// The price of one call that starts at `at`.
    pub fn find(&self, query: &PriceQuery<'_>, at: DateTime<Utc>) -> Result<Price, Unpriced> {
        let terms = Terms { processing: query.processing, service_tier: query.service_tier };
        self.resolve(query.provider, query.model)?.at(at, terms)
    }

    /// The handle of a model, to keep and to ask per call. It has a price, if only from a later day on.
    pub fn resolve(&self, provider: &str, model: &str) -> Result<PricedModel, Unpriced> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(provider).and_then(|models| models.get(model)) {
            return Ok(found.clone());
        }
        drop(known);
        let found = self.search(provider, model)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.values().map(HashMap::len).sum::<usize>() < REMEMBERED {
            known.entry(provider.to_owned()).or_default().insert(model.to_owned(), found.clone());
        }
        Ok(found)
    }

    /// The handle for settling a call: `billed` is the model that the provider's answer names, such as a dated version of the
    /// deployment's `model`. An own price of the deployment's model goes first; a billed name the list does not know gives way
    /// to the deployment's model.
    pub fn resolve_billed(&self, provider: &str, model: &str, billed: &str) -> Result<PricedModel, Unpriced> {
        let asked = self.resolve(provider, model);
        if asked.as_ref().is_ok_and(|asked| asked.is_own()) {
            return asked;
        }
        self.resolve(provider, billed).or(asked)
    }

    fn search(&self, provider: &str, model: &str) -> Result<PricedModel, Unpriced> {
        let names = (provider.to_owned(), model.to_owned());
        let own = self.own.get(&names).cloned();
        let listing = SHIPPED.find(provider, model);
        let (provider, model) = names;
        match (own, listing) {
            (None, Err(Missing::Provider)) => Err(Unpriced::UnknownProvider { provider, model }),
            (None, Err(Missing::Model)) => Err(Unpriced::UnknownModel { provider, model }),
            (None, Ok(listing)) if !listing.model.has_token_price() => Err(Unpriced::NoTokenPrice { provider, model }),
            (own, listing) => Ok(PricedModel(Arc::new(Known { provider, model, own, listing: listing.ok() }))),
        }
    }
}
