//! A refusal and its evidence: a limit counts as full only by a view of the whole limit that is newer than the call.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::waits::{Obstacle, WaitReason};

use super::{Kind, StoredScope};

/// The Retry-After at a full limit of slots: when the next call ends cannot be predicted.
const SLOT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How the whole limit stood after a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    /// Before PostgreSQL was asked.
    pub asked: Instant,
    /// Granted to nobody.
    pub left: f64,
    /// Of a rate: what comes in.
    pub per_s: f64,
    /// Of a rate: the most that its bucket holds.
    pub burst: f64,
    /// Granted to other replicas, which did not use it.
    pub idle_elsewhere: i64,
    /// Since when the reports of all other replicas with a grant are valid; `None` if no other replica has one.
    pub word_of: Option<Instant>,
    pub is_tight: bool,
    /// Another replica is short of it.
    pub is_wanted: bool,
}

/// A limit that refused.
#[derive(Debug, Clone)]
pub struct Refused {
    pub scope: Arc<str>,
    pub kind: Kind,
    pub cap: i64,
    /// What the call needed, and what of it was there.
    pub(super) amount: i64,
    pub(super) held: i64,
    /// Granted by this replica itself: no other one has a part of it.
    pub(super) is_local: bool,
    pub(super) view: Option<View>,
}

/// What is known of a limit that refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing {
    /// Nothing that is newer than the call, or it has room.
    Unknown,
    /// All of it is granted, but not every replica has reported that it uses its grant.
    Granted,
    /// It is full; a rate has room again after this.
    Full(Option<Duration>),
}

impl Refused {
    /// By what was known when it refused, for a call that began at `since`.
    pub(super) fn standing(&self, since: Instant, now: Instant) -> Standing {
        if self.is_local {
            return Standing::Full(None);
        }
        let Some(view) = self.view.filter(|view| view.asked >= since) else { return Standing::Unknown };
        let refill = match self.kind {
            Kind::Slots if view.left >= 1.0 => return Standing::Unknown,
            Kind::Slots => None,
            Kind::Rpm | Kind::Tpm => {
                // A call that is larger than the bucket passes once that is full.
                let needed = (self.amount as f64).min(view.burst) - self.held as f64;
                let left = view.left + view.per_s * now.saturating_duration_since(view.asked).as_secs_f64();
                if left >= needed {
                    return Standing::Unknown;
                }
                Some(Duration::try_from_secs_f64((needed - left) / view.per_s).unwrap_or(SLOT_RETRY_AFTER))
            }
        };
        match view.idle_elsewhere == 0 && view.word_of.is_none_or(|word| word >= since) {
            true => Standing::Full(refill),
            false => Standing::Granted,
        }
    }

    /// After this the call may find room.
    pub fn retry_after(&self, now: Instant) -> Duration {
        match self.standing(self.view.map_or(now, |view| view.asked), now) {
            Standing::Full(Some(refill)) => refill.max(SLOT_RETRY_AFTER),
            _ => SLOT_RETRY_AFTER,
        }
    }

    /// The message for the caller: whose limit it is, its cap, and until when it is used up.
    pub fn told(&self, team: &str, retry_after: Duration, now: DateTime<Utc>) -> String {
        let (kind, cap, scope) = (self.kind.as_str(), self.cap, self.scope(team));
        if self.is_local {
            return format!("Tollway's limit slots of {scope} is used up: a call may start when one of them ends");
        }
        match self.kind {
            Kind::Slots => format!(
                "Tollway's limit {kind} {cap} of {scope} is used up: {cap} calls are under way, and one may start when one of them ends"
            ),
            Kind::Rpm | Kind::Tpm => {
                let until = now + TimeDelta::from_std(retry_after).unwrap_or_default();
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                format!("Tollway's limit {kind} {cap} of {scope} is used up until {until}")
            }
        }
    }

    /// As people write it. One of no table has a scope of its own.
    fn scope(&self, team: &str) -> String {
        self.scope.parse::<StoredScope>().map_or_else(|_| self.scope.to_string(), |scope| scope.named(team))
    }

    /// The obstacle of a blocked request, as `tollway jobs` and `tollway lanes` show it.
    pub fn obstacle(&self, team: &str) -> Obstacle {
        let reason = self.scope.parse().map_or(WaitReason::DeploymentLimit, |scope: StoredScope| scope.reason());
        Obstacle::new(reason, format!("limit {} of {}", self.kind.as_str(), self.scope(team)))
    }
}

#[cfg(test)]
mod tests;
