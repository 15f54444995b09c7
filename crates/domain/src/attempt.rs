//! One provider call and how it ended.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The word in the ledger, in errors and in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Why this attempt was made.
    AttemptReason { Primary = "primary", Retry = "retry", Fallback = "fallback", Hedge = "hedge" }
}

words! {
    /// How an attempt ended, as the ledger says it.
    AttemptStatus {
        Succeeded = "succeeded",
        Failed = "failed",
        /// The call may have reached the provider, and nobody knows how it ended.
        UnknownOutcome = "unknown_outcome",
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a call failed, which decides what happens next. [`ErrorClass::fault`] says whose fault it is.
    ErrorClass {
        /// 429.
        Throttled = "throttled",
        /// 503, 529, or a breaker that is open.
        Overloaded = "overloaded",
        /// Refused, reset, DNS: nothing was sent.
        Connect = "connect",
        ConnectTimeout = "connect_timeout",
        /// The provider went silent between two bytes.
        ReadTimeout = "read_timeout",
        /// The whole call took longer than it may.
        TotalTimeout = "total_timeout",
        /// 500 and its kin, and what providers' own SDKs retry as they do a 500: 408, 409, 425.
        ServerError = "server_error",
        /// 401, and a 403 that speaks of the key: the operator's credential, not the caller's request.
        Credential = "credential",
        /// 402, and any refusal that speaks of billing: the operator's account has no credit or no quota left. Waiting does
        /// not mend it, paying does.
        QuotaExhausted = "quota_exhausted",
        /// 404 and 410, and any refusal that says that the model does not exist: the deployment's `model` or `base_url` is wrong.
        ModelNotFound = "model_not_found",
        /// A 403 that speaks neither of the key nor of the content: only other requests can tell whose fault it is.
        Forbidden = "forbidden",
        /// 400, 413, 422: the request itself; no other deployment would take it.
        InvalidRequest = "invalid_request",
        /// 451, and a 403 that speaks of the prompt or of a policy: the provider will not answer this content.
        RefusedContent = "refused_content",
        /// 204, a redirect, 405, 418 and the rest: no answer and no refusal that this API knows.
        UnexpectedStatus = "unexpected_status",
        /// Not JSON, the wrong shape, or no finish reason.
        Garbage = "garbage",
        /// The body ended before it was whole.
        Cut = "cut",
        /// More than Tollway takes from a provider.
        TooLarge = "too_large",
        /// Our own code failed on it.
        Panic = "panic",
        Unknown = "unknown",
    }
}

/// What a failed attempt means for its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The deployment cannot serve now. Costs the request no attempt; the deployment cools.
    Outage,
    /// The deployment cannot serve until its operator has done something about it: paid the provider, or corrected the model's
    /// name. Costs the request no attempt; the deployment is probed rarely, and the operator is told at once.
    Operator,
    /// It may be the deployment or the request: the next deployment is tried, and a whole round of such failures counts as
    /// one failed try of the request, unless the deployment's breaker is open.
    Either,
    /// The request itself. Final.
    Request,
}

impl Fault {
    /// Whether the provider did no work on the request: such a failure costs it no attempt and none of its caller's rates.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Outage | Self::Operator)
    }
}

impl ErrorClass {
    pub fn fault(self) -> Fault {
        match self {
            Self::Throttled | Self::Overloaded | Self::Connect | Self::ConnectTimeout | Self::Credential => {
                Fault::Outage
            }
            Self::QuotaExhausted | Self::ModelNotFound => Fault::Operator,
            Self::InvalidRequest | Self::RefusedContent => Fault::Request,
            Self::ReadTimeout
            | Self::TotalTimeout
            | Self::ServerError
            | Self::Forbidden
            | Self::UnexpectedStatus
            | Self::Garbage
            | Self::Cut
            | Self::TooLarge
            | Self::Panic
            | Self::Unknown => Fault::Either,
        }
    }

    /// Whether the provider may have charged for the call without saying so: it was sent, and what came back was neither a refusal
    /// nor an error status.
    pub fn may_be_billed(self) -> bool {
        matches!(self, Self::ReadTimeout | Self::TotalTimeout | Self::Garbage | Self::Cut | Self::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_read_back_from_its_word() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_word(class.as_str()), Some(*class));
        }
    }

    #[test]
    fn only_what_a_provider_worked_on_can_be_billed() {
        let billed: Vec<_> = ErrorClass::ALL.iter().filter(|class| class.may_be_billed()).collect();
        assert!(billed.iter().all(|class| class.fault() == Fault::Either), "{billed:?}");
        assert!(!ErrorClass::UnexpectedStatus.may_be_billed() && !ErrorClass::ServerError.may_be_billed());
    }
}
