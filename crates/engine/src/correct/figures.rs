//! The sums of an attempt's rows: tokens and money. Arithmetic.

use domain::{LedgerRow, Money, Usage, ledger::PriceStatus};
use pricing::Charge;

/// `None` as in the ledger: nobody reported it, or it has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Figures {
    /// In the order of [`tokens`].
    tokens: [Option<i64>; 10],
    /// In the order of [`costs`].
    costs: [Option<i64>; 8],
    pub contracted_cost: Option<i64>,
}

/// The last of the costs that are parts of what was charged.
const OTHER: usize = 4;

fn tokens(row: &LedgerRow) -> [Option<i64>; 10] {
    [
        row.input_uncached,
        row.cache_read,
        row.cache_write_5m,
        row.cache_write_1h,
        row.input_audio,
        row.input_image,
        row.output_text,
        row.output_reasoning,
        row.output_audio,
        row.prompt_total,
    ]
}

fn costs(row: &LedgerRow) -> [Option<i64>; 8] {
    [
        row.cost_input,
        row.cost_cache_read,
        row.cost_cache_write,
        row.cost_output,
        row.cost_other,
        row.list_cost,
        row.cost_if_uncached,
        row.cost_if_not_batch,
    ]
}

fn plus(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    }
}

/// What `b` lacks of `a`; nothing, where they are the same.
fn minus(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_sub(b.unwrap_or(0))),
    }
}

impl Figures {
    pub fn of(row: &LedgerRow) -> Self {
        Self { tokens: tokens(row), costs: costs(row), contracted_cost: row.contracted_cost }
    }

    pub fn of_usage(usage: &Usage, charge: &Charge) -> Self {
        let pico = |money: Option<Money>| money.map(Money::pico);
        Self {
            tokens: [
                usage.input_uncached,
                usage.cache_read,
                usage.cache_write_5m,
                usage.cache_write_1h,
                usage.input_audio,
                usage.input_image,
                usage.output_text,
                usage.output_reasoning,
                usage.output_audio,
                usage.prompt_total(),
            ],
            costs: [
                charge.input,
                charge.cache_read,
                charge.cache_write,
                charge.output,
                charge.other,
                charge.list_cost,
                charge.cost_if_uncached,
                charge.cost_if_not_batch,
            ]
            .map(pico),
            contracted_cost: pico(charge.contracted_cost),
        }
    }

    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, plus)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, minus)
    }

    fn with(&self, other: &Self, op: fn(Option<i64>, Option<i64>) -> Option<i64>) -> Self {
        Self {
            tokens: std::array::from_fn(|n| op(self.tokens[n], other.tokens[n])),
            costs: std::array::from_fn(|n| op(self.costs[n], other.costs[n])),
            contracted_cost: op(self.contracted_cost, other.contracted_cost),
        }
    }

    /// The same call at this cost. What it differs by stands in one sum, as where nobody knows its parts.
    pub fn with_cost(&self, cost: i64) -> Self {
        let delta = cost.saturating_sub(self.contracted_cost.unwrap_or(0));
        let mut costs = self.costs;
        if delta != 0 {
            costs[OTHER] = plus(costs[OTHER], Some(delta));
        }
        Self { costs, contracted_cost: Some(cost), ..*self }
    }

    /// A call that cost nothing and used nothing.
    pub fn voided(&self) -> Self {
        let zero = |figure: Option<i64>| figure.map(|_| 0);
        Self { tokens: self.tokens.map(zero), costs: self.costs.map(zero), contracted_cost: Some(0) }
    }

    /// Whether `target` says the same: a count that nobody reported adds as much as one of zero, but no price is not a price of zero.
    pub fn is_as(&self, target: &Self) -> bool {
        let delta = target.minus(self);
        let has_delta = |figures: &[Option<i64>]| figures.iter().flatten().any(|figure| *figure != 0);
        self.contracted_cost == target.contracted_cost && !has_delta(&delta.tokens) && !has_delta(&delta.costs)
    }

    pub fn put(&self, row: &mut LedgerRow) {
        [
            row.input_uncached,
            row.cache_read,
            row.cache_write_5m,
            row.cache_write_1h,
            row.input_audio,
            row.input_image,
            row.output_text,
            row.output_reasoning,
            row.output_audio,
            row.prompt_total,
        ] = self.tokens;
        [
            row.cost_input,
            row.cost_cache_read,
            row.cost_cache_write,
            row.cost_output,
            row.cost_other,
            row.list_cost,
            row.cost_if_uncached,
            row.cost_if_not_batch,
        ] = self.costs;
        row.contracted_cost = self.contracted_cost;
        let status = if self.contracted_cost.is_some() { PriceStatus::Priced } else { PriceStatus::Unpriced };
        row.price_status = status.as_str().to_owned();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figure() -> impl Strategy<Value = Option<i64>> {
        proptest::option::of(-1_000_000i64..1_000_000)
    }

    fn figures() -> impl Strategy<Value = Figures> {
        let (tokens, costs) = (proptest::array::uniform10(figure()), proptest::array::uniform8(figure()));
        (tokens, costs, figure()).prop_map(|(tokens, costs, contracted_cost)| Figures {
            tokens,
            costs,
            contracted_cost,
        })
    }

    fn zeroed(figures: &Figures) -> Figures {
        figures.plus(&Figures { tokens: [Some(0); 10], costs: [Some(0); 8], contracted_cost: Some(0) })
    }

    proptest! {
        /// What is booked and the correction add up to what was wanted, to the unit; and then nothing is left to be corrected.
        #[test]
        fn a_correction_adds_up_to_what_was_wanted(booked in figures(), target in figures(), cost in 0i64..1_000_000) {
            for target in [target, booked.voided(), booked.with_cost(cost)] {
                let sum = booked.plus(&target.minus(&booked));
                prop_assert_eq!(zeroed(&sum), zeroed(&target));
                prop_assert!(sum.is_as(&target) || target.contracted_cost.is_none());
            }
            let right = booked.with_cost(cost);
            prop_assert_eq!(right.with_cost(cost), right);
            prop_assert_eq!(right.contracted_cost, Some(cost));
            prop_assert_eq!(booked.voided().voided(), booked.voided());
        }
    }
}
