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
    /// Whose fault a failure is, which decides what happens next.
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
        /// 500 and its kin.
        ServerError = "server_error",
        /// 401, 403: the operator's credential, not the caller's request.
        Credential = "credential",
        /// 400, 404, 413, 422: the request itself; no other deployment would take it.
        InvalidRequest = "invalid_request",
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
    /// It may be the deployment or the request: the next deployment is tried, and a whole round of such failures counts as
    /// one failed try of the request, unless the deployment's breaker is open.
    Either,
    /// The request itself. Final.
    Request,
}

impl ErrorClass {
    pub fn fault(self) -> Fault {
        match self {
            Self::Throttled | Self::Overloaded | Self::Connect | Self::ConnectTimeout | Self::Credential => {
                Fault::Outage
            }
            Self::InvalidRequest => Fault::Request,
            Self::ReadTimeout
            | Self::TotalTimeout
            | Self::ServerError
            | Self::Garbage
            | Self::Cut
            | Self::TooLarge
            | Self::Panic
            | Self::Unknown => Fault::Either,
        }
    }
}
