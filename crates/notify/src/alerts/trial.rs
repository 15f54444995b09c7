//! A test alert, to see whether it arrives.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Alert, AlertKind, alert::Said};
use store::alert::Key;
use uuid::Uuid;

use super::{Raised, raise::raise};
use crate::Notifier;

#[derive(Debug, thiserror::Error)]
pub enum NoReceiver {
    #[error("no receivers are configured: declare one as [alerts.NAME] in tollway.toml")]
    AtAll,
    #[error("there is no receiver {0:?}; there are {1}")]
    OfThisName(String, String),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// Sends one to all receivers, whatever they hear of, or to the one of this name. `by` is the key that asks.
pub async fn try_out(notifier: &Notifier, name: Option<&str>, by: &str) -> Result<Alert, NoReceiver> {
    let all = &notifier.receivers;
    let asked: Vec<_> = all.iter().filter(|receiver| name.is_none_or(|name| receiver.name == name)).cloned().collect();
    if asked.is_empty() {
        let names: Vec<&str> = all.iter().map(|receiver| receiver.name.as_str()).collect();
        return Err(match name {
            Some(name) if !all.is_empty() => NoReceiver::OfThisName(name.chars().take(64).collect(), names.join(", ")),
            _ => NoReceiver::AtAll,
        });
    }
    let now = notifier.clock.now();
    let raised = raised(by, now);
    let mut tx = notifier.pools.api.begin().await?;
    // Its subject is new, so nobody can have told it before.
    let unseen = || NoReceiver::Unavailable(store::Error::RowNotFound);
    let id = raise(&mut tx, &asked, &raised, now).await?.ok_or_else(unseen)?;
    let made = store::alert::list(&mut tx, Some(id), None, 1).await?.pop().ok_or_else(unseen)?;
    tx.commit().await?;
    Ok(made)
}

fn raised(by: &str, now: DateTime<Utc>) -> Raised {
    let said = Said {
        title: "A test of Tollway's alerts".to_owned(),
        text: format!("The key {by} asked for it. Nothing is wrong."),
        fields: Vec::new(),
    };
    let about = Uuid::now_v7().to_string();
    let key = Key { kind: AlertKind::Test, about, threshold: 0, since: now, until: Some(now + TimeDelta::days(1)) };
    Raised { key, object: "test".to_owned(), team: None, said, silent: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::message::tests::assert_sent;

    #[test]
    fn what_is_sent() {
        assert_sent("test", &raised("k", "2026-11-23T12:00:00Z".parse().unwrap()));
    }
}
