//! Prices: what a call may cost at most (`estimate`) and what it did cost (`charge`). Pure: the list ships inside the binary,
//! time is an argument, money is whole pico-USD.
//!
//! ```
//! use pricing::{PriceList, Terms, charge};
//! # use domain::Usage;
//! let list = PriceList::shipped();
//! let model = list.resolve("openai", "gpt-4o")?; // once per deployment
//! let price = model.at("2026-11-22T12:00:00Z".parse()?, Terms::sync())?; // per call
//! let usage = Usage { input_uncached: Some(1_000), output_text: Some(100), ..Usage::default() };
//! assert_eq!(charge(&price, &usage)?.contracted_cost.unwrap().to_string(), "0.0035");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A price that is not known is an error (`Unpriced`) or a charge flagged unpriced, never zero.

#![warn(clippy::unwrap_used)]

mod charge;
mod estimate;
mod list;
mod listed;
mod model;
mod name_pattern;
mod odd;
mod own;
mod price;
mod rate;
mod shipped;
mod terms;

pub use charge::{Charge, ChargeError, charge};
pub use estimate::{DEFAULT_MAX_OUTPUT, estimate};
pub use list::{PriceList, PriceQuery};
pub use model::{PricedModel, Unpriced};
pub use odd::{OddPrice, odd_prices};
pub use own::{BadPrice, Flaw};
pub use price::Price;
pub use rate::Class;
pub use terms::{Processing, Terms};
