//! What single calls tell of their provider, told at once: an account without quota, a usage that cannot be. Each call's ledger row says
//! it, so it is seen where rows are committed, of whichever kind of call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AlertKind, ErrorClass, LedgerRow, Money,
    alert::{Field, Said},
};
use store::alert::Key;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Raised, raise::raise_all};
use crate::Notifier;

/// As long as it lasts, it is told so often.
const QUOTA_REPEAT_INTERVAL: TimeDelta = TimeDelta::hours(1);
const USAGE_REPEAT_INTERVAL: TimeDelta = TimeDelta::hours(6);
/// What `usage_source` says of a usage that was bounded, for the provider reported more than the call can have used.
const IMPLAUSIBLE: &str = "implausible";
/// After an error of the database.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// What was seen and is not told yet: the last row of each kind and deployment.
#[derive(Debug, Default)]
pub struct Notices {
    seen: Mutex<BTreeMap<(&'static str, String), LedgerRow>>,
    any: Notify,
}

impl Notices {
    /// Rows that were committed.
    pub fn see<'r>(&self, rows: impl Iterator<Item = &'r LedgerRow>) {
        for row in rows {
            if let Some(kind) = kind_of(row) {
                self.put(kind, row.clone());
                self.any.notify_one();
            }
        }
    }

    fn put(&self, kind: AlertKind, row: LedgerRow) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert((kind.as_str(), row.deployment.clone()), row);
    }

    fn take(&self) -> Vec<LedgerRow> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

fn kind_of(row: &LedgerRow) -> Option<AlertKind> {
    if row.error_class.as_deref() == Some(ErrorClass::QuotaExhausted.as_str()) {
        return Some(AlertKind::ProviderQuota);
    }
    (row.usage_source.as_deref() == Some(IMPLAUSIBLE)).then_some(AlertKind::ImplausibleUsage)
}

/// Tells of what this replica's calls say, until cancelled.
pub async fn tell_of_notices(notifier: Arc<Notifier>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = notifier.notices.any.notified() => {}
        }
        let (rows, now) = (notifier.notices.take(), notifier.clock.now());
        let raised: Vec<Raised> = rows.iter().filter_map(|row| of(row, now)).collect();
        if let Err(error) = raise_all(&notifier.pools.work, &notifier.receivers, &raised, now).await {
            warn!(%error, "Alerts about providers could not be raised; trying again");
            for row in rows {
                if let Some(kind) = kind_of(&row) {
                    notifier.notices.put(kind, row);
                }
            }
            tokio::time::sleep(RETRY_AFTER).await;
            notifier.notices.any.notify_one();
        }
    }
}

fn of(row: &LedgerRow, now: DateTime<Utc>) -> Option<Raised> {
    match kind_of(row)? {
        AlertKind::ProviderQuota => Some(quota(row, now)),
        AlertKind::ImplausibleUsage => Some(usage(row, now)),
        _ => None,
    }
}

fn raised(kind: AlertKind, row: &LedgerRow, again: TimeDelta, now: DateTime<Utc>, said: Said) -> Raised {
    let about = row.deployment.clone();
    let key = Key { kind, about: about.clone(), threshold: 0, since: now, until: Some(now + again) };
    Raised { key, object: about, team: None, said, silent: Vec::new() }
}

fn quota(row: &LedgerRow, now: DateTime<Utc>) -> Raised {
    let LedgerRow { deployment, provider, .. } = row;
    let text = format!(
        "The provider {provider} refuses calls of the deployment {deployment}: its account has no quota or no credit left. Waiting does \
         not mend it; raise the quota, or pay. Until then its routes use their next deployment; where there is none, requests of jobs \
         wait, and synchronous calls fail. It is probed now and then."
    );
    let mut fields = vec![Field::new("Provider", provider.as_str()), Field::new("Model", row.model_billed.as_str())];
    fields.extend(row.billing_account.as_deref().map(|account| Field::new("Billing account", account)));
    fields.extend(row.http_status.map(|status| Field::new("HTTP status", status.to_string())));
    let said = Said { title: format!("Deployment {deployment} has no quota left"), text, fields };
    raised(AlertKind::ProviderQuota, row, QUOTA_REPEAT_INTERVAL, now, said)
}

fn usage(row: &LedgerRow, now: DateTime<Utc>) -> Raised {
    let LedgerRow { deployment, provider, attempt_id, .. } = row;
    let text = format!(
        "The provider {provider} reported more tokens for a call of the deployment {deployment} than the request and the model allow. The \
         call is booked at the most that they do allow, and flagged. Ask the provider what it charged, and set it right: `tollway \
         ledger correct {attempt_id} --usage …`."
    );
    let cost = row.contracted_cost.map_or_else(|| "no price".to_owned(), |cost| format!("${}", Money(cost)));
    let fields = vec![
        Field::new("Request", row.request_id.as_str()),
        Field::new("Attempt", attempt_id.to_string()),
        Field::new("Team", row.team.as_str()),
        Field::new("Booked", format!("{cost}, {} tokens", row.tokens())),
    ];
    let said = Said { title: format!("Deployment {deployment} reported implausible usage"), text, fields };
    raised(AlertKind::ImplausibleUsage, row, USAGE_REPEAT_INTERVAL, now, said)
}

#[cfg(test)]
mod tests;
