//! The list inside the binary: `data/prices.json`, and how it finds a model. Names are matched as genai-prices does it.

use std::sync::{Arc, LazyLock};

use chrono::NaiveDate;
use serde::Deserialize;

use crate::{listed::ListedModel, name_pattern::NamePattern};

pub(crate) const PRICES_JSON: &str = include_str!("../data/prices.json");

/// Read once per process, within milliseconds.
pub(crate) static SHIPPED: LazyLock<Shipped> =
    LazyLock::new(|| serde_json::from_str(PRICES_JSON).expect("a test reads the shipped prices, so they can be read"));

#[derive(Debug, Deserialize)]
pub(crate) struct Shipped {
    pub(crate) price_version: Arc<str>,
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    id: String,
    /// Other names of it.
    #[serde(rename = "match", default)]
    names: Option<NamePattern>,
    /// Providers whose models it serves too.
    #[serde(default)]
    fallback: Vec<String>,
    models: Vec<Arc<ListedModel>>,
}

/// A model, and whether the provider asked for lists it itself or serves it for another.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) model: Arc<ListedModel>,
    pub(crate) at_home: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Provider,
    Model,
}

impl Shipped {
    pub(crate) fn find(&self, provider: &str, model: &str) -> Result<Listing, Missing> {
        let provider = self.provider(provider.trim().to_lowercase().as_str()).ok_or(Missing::Provider)?;
        let model = model.to_lowercase();
        let found = self.listing(provider, &model);
        found.or_else(|| self.listing(provider, &with_dashed_date(&model)?)).ok_or(Missing::Model)
    }

    fn provider(&self, name: &str) -> Option<&Provider> {
        let by_id = self.providers.iter().find(|provider| provider.id == name);
        let named = |provider: &&Provider| provider.names.as_ref().is_some_and(|rule| rule.matches(name));
        by_id.or_else(|| self.providers.iter().find(named))
    }

    fn listing(&self, provider: &Provider, name: &str) -> Option<Listing> {
        let own = provider.model(name).map(|model| Listing { model, at_home: true });
        own.or_else(|| {
            let lenders = provider.fallback.iter().filter_map(|id| self.providers.iter().find(|other| other.id == *id));
            lenders.filter_map(|lender| lender.model(name)).map(|model| Listing { model, at_home: false }).next()
        })
    }

    #[cfg(test)]
    pub(crate) fn models(&self) -> impl Iterator<Item = (&str, &ListedModel)> {
        self.providers.iter().flat_map(|provider| provider.models.iter().map(|model| (&*provider.id, &**model)))
    }
}

impl Provider {
    fn model(&self, name: &str) -> Option<Arc<ListedModel>> {
        self.models.iter().find(|model| model.names.matches(name)).cloned()
    }
}

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`, in case the list knows only the second form; None when nothing changes.
fn with_dashed_date(name: &str) -> Option<String> {
    let mut parts = name.split_inclusive(['-', ':']);
    let mut seen = String::from(parts.next()?);
    for part in parts {
        let (word, end) = part.split_at(part.trim_end_matches(['-', ':']).len());
        match dashed(word).filter(|_| seen.ends_with('-')) {
            Some(date) => seen.push_str(&date),
            None => seen.push_str(word),
        }
        seen.push_str(end);
    }
    (seen != name).then_some(seen)
}

fn dashed(word: &str) -> Option<String> {
    let digits = word.len() == 8 && word.starts_with("20") && word.bytes().all(|byte| byte.is_ascii_digit());
    let date = digits.then(|| NaiveDate::parse_from_str(word, "%Y%m%d").ok()).flatten()?;
    Some(date.to_string())
}

#[cfg(test)]
mod tests;
