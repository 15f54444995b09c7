//! A model whose price is known: the handle a deployment keeps, and the price at a moment.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use crate::{
    own::OwnModel,
    price::Price,
    rate::Class,
    shipped::{Listing, SHIPPED},
    terms::{Processing, Terms},
};

/// Why there is no price. What to do about it: an own price, or `allow_unpriced` on the route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    #[error(
        "the price list knows no provider {provider:?}, so {model:?} has no price: declare one under [[prices]], or set \
         allow_unpriced = true on the route"
    )]
    UnknownProvider { provider: String, model: String },
    #[error(
        "the price list has no model {model:?} of provider {provider:?}: declare its price under [[prices]], or set \
         allow_unpriced = true on the route"
    )]
    UnknownModel { provider: String, model: String },
    #[error(
        "the price list has no price per token for {model:?} of provider {provider:?}: declare one under [[prices]] \
         (free = true if it costs nothing), or set allow_unpriced = true on the route"
    )]
    NoTokenPrice { provider: String, model: String },
    #[error(
        "the own price of {model:?} of provider {provider:?} holds only from {from}: add one without `from` under [[prices]]"
    )]
    NotYet { provider: String, model: String, from: NaiveDate },
}

/// Own prices and the list's, of one model of one provider. Resolve it once, keep it, ask it for each call; a clone is cheap.
#[derive(Debug, Clone)]
pub struct PricedModel(pub(crate) Arc<Known>);

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) own: Option<Arc<OwnModel>>,
    pub(crate) listing: Option<Listing>,
}

impl PricedModel {
    /// The price of a call that starts at `at`. Own prices go before the list's; before the first own price begins, the list's hold.
    pub fn at(&self, at: DateTime<Utc>, terms: Terms<'_>) -> Result<Price, Unpriced> {
        let Known { provider, model, own, listing } = &*self.0;
        let own = own.as_ref().and_then(|own| own.on(at.date_naive()));
        let listed = listing.as_ref().map(|listing| listing.model.rates(at, terms, listing.at_home));
        let context = listing.as_ref().and_then(|listing| listing.model.context);
        if let Some(own) = own {
            return Ok(Price {
                rates: own.rates.clone(),
                list: listed.map(|found| found.rates),
                not_batch: None,
                version: own.version.clone(),
                exact: true,
                context,
                is_own: true,
            });
        }
        let (Some(listing), Some(found)) = (listing, listed) else { return Err(self.not_yet()) };
        if found.rates.get(Class::Input, 0).is_none() {
            return Err(Unpriced::NoTokenPrice { provider: provider.clone(), model: model.clone() });
        }
        let not_batch = (terms.processing == Processing::ProviderBatch).then(|| {
            let terms = Terms { processing: Processing::Sync, ..terms };
            listing.model.rates(at, terms, listing.at_home).rates
        });
        let version = SHIPPED.price_version.clone();
        Ok(Price { rates: found.rates, list: None, not_batch, version, exact: found.exact, context, is_own: false })
    }

    /// An own price of the operator is declared for exactly this provider and model.
    pub fn is_own(&self) -> bool {
        self.0.own.is_some()
    }

    /// The list's own name for the model, such as `gpt-4o` for `gpt-4o-2024-11-20`.
    pub fn listed_as(&self) -> Option<&str> {
        self.0.listing.as_ref().map(|listing| listing.model.id.as_str())
    }

    /// Input tokens the model takes, where the list says so.
    pub fn context(&self) -> Option<i64> {
        self.0.listing.as_ref()?.model.context
    }

    fn not_yet(&self) -> Unpriced {
        let Known { provider, model, own, .. } = &*self.0;
        let from = own.as_ref().and_then(|own| own.first_day()).unwrap_or(NaiveDate::MIN);
        Unpriced::NotYet { provider: provider.clone(), model: model.clone(), from }
    }
}
