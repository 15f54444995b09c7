//! What one token costs, by class, in whole pico-USD.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error};

/// What a provider charges for separately. `Request` is a fee per call, all others are per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Input,
    CacheRead,
    CacheWrite,
    #[serde(rename = "cache_write_5m")]
    CacheWrite5m,
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    InputAudio,
    InputImage,
    Output,
    Reasoning,
    OutputAudio,
    Request,
}

const CLASSES: usize = Class::Request as usize + 1;

impl Class {
    /// The class whose rate holds where this one has none of its own; the same steps as in genai-prices.
    fn wider(self) -> Option<Self> {
        match self {
            Self::Input | Self::Output | Self::Request => None,
            Self::CacheRead | Self::CacheWrite | Self::InputAudio | Self::InputImage => Some(Self::Input),
            Self::CacheWrite5m | Self::CacheWrite1h => Some(Self::CacheWrite),
            Self::Reasoning | Self::OutputAudio => Some(Self::Output),
        }
    }
}

/// Pico-USD per token, by the size of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rate {
    base: i64,
    /// Ascending; most rates have none.
    steps: Option<Arc<[Step]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    over: i64,
    pico: i64,
}

impl Rate {
    pub(crate) fn flat(pico: i64) -> Self {
        Self { base: pico, steps: None }
    }

    /// The whole request reprices when its prompt has strictly more tokens than a step says.
    pub(crate) fn at(&self, prompt_total: i64) -> i64 {
        let step = self.steps.iter().flat_map(|steps| steps.iter().rev()).find(|step| prompt_total > step.over);
        step.map_or(self.base, |step| step.pico)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Flat(i64),
            Stepped(Vec<i64>),
        }
        let numbers = match Raw::deserialize(deserializer)? {
            Raw::Flat(pico) => vec![pico],
            Raw::Stepped(numbers) => numbers,
        };
        let [base, rest @ ..] = numbers.as_slice() else { return Err(D::Error::custom("a rate without a figure")) };
        let steps: Vec<Step> = rest.chunks_exact(2).map(|pair| Step { over: pair[0], pico: pair[1] }).collect();
        let ascending = steps.windows(2).all(|pair| pair[0].over < pair[1].over);
        if rest.len() % 2 != 0 || !ascending || numbers.iter().any(|number| *number < 0) {
            return Err(D::Error::custom(format!("{numbers:?} is no rate: base, then ascending pairs, none negative")));
        }
        Ok(Self { base: *base, steps: (!steps.is_empty()).then(|| steps.into()) })
    }
}

/// One rate per class, where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rates([Option<Rate>; CLASSES]);

impl Rates {
    pub(crate) fn set(&mut self, class: Class, rate: Rate) {
        self.0[class as usize] = Some(rate);
    }

    /// The class's own rate or that of a wider class, for a prompt of this size.
    pub(crate) fn get(&self, class: Class, prompt_total: i64) -> Option<i64> {
        let own = self.0[class as usize].as_ref().map(|rate| rate.at(prompt_total));
        own.or_else(|| self.get(class.wider()?, prompt_total))
    }

    /// Takes from `other` what it has and `self` does not yet have.
    pub(crate) fn fill_from(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
    }
}

impl From<HashMap<Class, Rate>> for Rates {
    fn from(given: HashMap<Class, Rate>) -> Self {
        let mut rates = Self::default();
        given.into_iter().for_each(|(class, rate)| rates.set(class, rate));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rate, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_step_holds_from_one_token_beyond_it() {
        let rate = read("[1,100,5,200,7]").unwrap();
        let seen = [0, 100, 101, 200, 201].map(|prompt| rate.at(prompt));
        assert_eq!(seen, [1, 1, 5, 5, 7]);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["-1", "[]", "[1,2]", "[1,200,5,100,7]", "[1,-2,3]", "1.5", "\"1\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_class_without_a_rate_costs_what_the_wider_one_costs() {
        let rates = Rates::from(HashMap::from([(Class::Input, Rate::flat(3)), (Class::CacheWrite, Rate::flat(4))]));
        let seen = [Class::CacheRead, Class::CacheWrite1h, Class::InputAudio, Class::Reasoning, Class::Request];
        assert_eq!(seen.map(|class| rates.get(class, 0)), [Some(3), Some(4), Some(3), None, None]);
    }
}
