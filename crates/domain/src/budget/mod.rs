//! A budget: how much a scope may spend per window, and what happens when it is used up.

mod check;
mod guard;
mod length;
mod scope;
mod window;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use check::{BadBudget, Known, check, check_beside, check_name};
pub use guard::{Guard, GuardBy, Subject};
pub use length::{BadLength, Length};
pub use scope::{Dimension, Facts, Scope};
pub use window::{BadWindow, Span, Window};

use crate::{attempt::words, money::Total};

words! {
    /// What it counts.
    Unit {
        /// Pico-USD.
        Usd = "usd",
        Tokens = "tokens",
    }
}

words! {
    /// What happens to a call that does not fit. Requests of jobs wait for the reset under all but `alert`.
    Policy {
        /// Synchronous calls, and new jobs, are refused.
        Reject = "reject",
        /// New jobs are taken, and wait with the others. Synchronous calls are refused.
        Hold = "hold",
        /// The next deployment of the route that fits is used; when none does, as `reject`.
        Downgrade = "downgrade",
        /// Nothing is held up.
        Alert = "alert",
    }
}

/// As it is declared: `[budgets.NAME]`, or the body of a PUT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What it is of; everything, when nothing is said.
    #[serde(default, skip_serializing_if = "Scope::is_everything")]
    pub scope: Scope,
    /// One of the two limits: USD as decimal text, or tokens, input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_usd: Option<Total>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_tokens: Option<i64>,
    pub window: Window,
    /// Where its hours, days, weeks and months begin.
    #[serde(default, skip_serializing_if = "is_utc", with = "zone")]
    pub time_zone: Tz,
    /// Left out: `reject`, or `alert` where it is soft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// It may be exceeded: its policy is `alert` or `downgrade`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// Percent of the limit at which it says so; ascending.
    #[serde(default = "thresholds")]
    pub thresholds: Vec<u32>,
    /// How fast one job, feature or team may spend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
}

fn thresholds() -> Vec<u32> {
    vec![50, 80, 100]
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_utc(zone: &Tz) -> bool {
    *zone == Tz::UTC
}

/// By its name in the IANA list.
mod zone {
    use std::borrow::Cow;

    use chrono_tz::Tz;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        let unknown = || format!("{name:?} is not a time zone of the IANA list, such as Europe/Berlin or UTC");
        name.parse().map_err(|_| D::Error::custom(unknown()))
    }
}

impl Budget {
    pub fn unit(&self) -> Unit {
        if self.limit_tokens.is_some() { Unit::Tokens } else { Unit::Usd }
    }

    /// Pico-USD or tokens.
    pub fn cap(&self) -> i128 {
        match (self.limit_usd, self.limit_tokens) {
            (_, Some(tokens)) => i128::from(tokens),
            (Some(usd), None) => usd.0,
            (None, None) => 0,
        }
    }

    pub fn policy(&self) -> Policy {
        self.policy.unwrap_or(if self.soft { Policy::Alert } else { Policy::Reject })
    }

    /// Whether calls are let through when it is used up.
    pub fn lets_through(&self) -> bool {
        self.soft || self.policy() == Policy::Alert
    }

    /// Whether what was counted for the one says as much of the other: they differ at most in the amount and in what happens at it.
    pub fn counts_as(&self, other: &Self) -> bool {
        (&self.scope, self.window, self.zone_of_window(), self.unit())
            == (&other.scope, other.window, other.zone_of_window(), other.unit())
    }

    /// The time zone, where the window's ends depend on it. A window that rolls, or never ends, is the same in every zone.
    fn zone_of_window(&self) -> Option<Tz> {
        match self.window {
            Window::Hour | Window::Day | Window::Week | Window::Month => Some(self.time_zone),
            Window::Rolling(_) | Window::Total => None,
        }
    }
}

impl Unit {
    /// An amount as people read it: USD with its decimals, or a number of tokens.
    pub fn text(self, amount: i128) -> String {
        match self {
            Self::Usd => Total(amount).to_string(),
            Self::Tokens => amount.to_string(),
        }
    }

    /// The same with its unit: `$1.50`, `120 tokens`.
    pub fn said(self, amount: i128) -> String {
        match self {
            Self::Usd => format!("${}", Total(amount)),
            Self::Tokens => format!("{amount} tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_stays_out() {
        let text = serde_json::json!({"limit_usd": "24000.00", "window": "month", "thresholds": [50, 80, 100]});
        let budget: Budget = serde_json::from_value(text.clone()).unwrap();
        assert_eq!((budget.unit(), budget.cap()), (Unit::Usd, 24_000_000_000_000_000));
        assert_eq!((budget.policy(), budget.lets_through()), (Policy::Reject, false));
        assert_eq!(serde_json::to_value(&budget).unwrap(), text);
        let soft = Budget { soft: true, ..budget };
        assert_eq!((soft.policy(), soft.lets_through()), (Policy::Alert, true));
    }

    #[test]
    fn amounts_are_said_in_their_unit() {
        assert_eq!(Unit::Usd.said(1_500_000_000_000), "$1.50");
        assert_eq!(Unit::Tokens.said(120), "120 tokens");
    }
}
