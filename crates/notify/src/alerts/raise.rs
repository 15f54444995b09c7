//! Raising an alert: the row and what tells it, in one transaction, so that it is told once and not lost.

use chrono::{DateTime, Utc};
use store::{
    PgConnection, PgPool,
    alert::{self, Key, NewAlert, NewDelivery},
};
use tracing::info;
use uuid::Uuid;

use super::{Raised, Receiver, message};

/// Raises those that were not told yet. Gives their number.
pub async fn raise_all(
    pool: &PgPool,
    receivers: &[Receiver],
    raised: &[Raised],
    at: DateTime<Utc>,
) -> store::Result<usize> {
    if raised.is_empty() {
        return Ok(0);
    }
    let keys: Vec<Key> = raised.iter().map(|one| one.key.clone()).collect();
    // Mostly all of them were: no transaction, and no lock, is needed to see that.
    let untold = alert::untold(&mut *pool.acquire().await?, &keys, at).await?;
    let mut told = 0;
    for one in untold.into_iter().filter_map(|n| raised.get(n)) {
        let mut tx = pool.begin().await?;
        let id = raise(&mut tx, receivers, one, at).await?;
        tx.commit().await?;
        told += usize::from(id.is_some());
    }
    Ok(told)
}

/// `None`, when somebody else was first. Inside a transaction.
pub async fn raise(
    conn: &mut PgConnection,
    receivers: &[Receiver],
    raised: &Raised,
    at: DateTime<Utc>,
) -> store::Result<Option<Uuid>> {
    let Raised { key, object, team, said, silent } = raised;
    let team = team.as_deref();
    alert::lock(conn).await?;
    let alert_id = Uuid::now_v7();
    let new = NewAlert { alert_id, key, object, team, said, at, is_silent: false };
    if !alert::insert(conn, &new).await? {
        return Ok(None);
    }
    for key in silent {
        alert::insert(conn, &NewAlert { alert_id: Uuid::now_v7(), key, is_silent: true, ..new }).await?;
    }
    for receiver in receivers.iter().filter(|receiver| receiver.hears(key.kind, team)) {
        let payload = message::payload(receiver, alert_id, raised, at);
        let new = NewDelivery { delivery_id: Uuid::now_v7(), alert_id, receiver: &receiver.name, payload: &payload };
        alert::send(conn, new).await?;
    }
    info!(alert.id = %alert_id, kind = key.kind.as_str(), object, title = said.title, "Alert");
    Ok(Some(alert_id))
}

#[cfg(test)]
mod tests {
    use domain::{AlertKind, alert::Said};

    use super::*;
    use crate::alerts::ReceiverSpec;

    fn receiver(name: &str, on: AlertKind) -> Receiver {
        let url = "https://hooks.example.com/".into();
        Receiver::new(ReceiverSpec { name: name.into(), url, secret: None, on: vec![on], teams: Vec::new() }, false)
            .unwrap()
    }

    fn raised(threshold: i32, lower: &[i32]) -> Raised {
        let key = |threshold| Key {
            kind: AlertKind::Budget,
            about: "7".into(),
            threshold,
            since: "2026-11-23T00:00:00Z".parse().unwrap(),
            until: Some("2026-11-24T00:00:00Z".parse().unwrap()),
        };
        Raised {
            key: key(threshold),
            object: "b".into(),
            team: None,
            said: Said { title: format!("{threshold} %"), text: "x".into(), fields: Vec::new() },
            silent: lower.iter().map(|percent| key(*percent)).collect(),
        }
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn what_two_replicas_see_at_once_is_sent_once_to_who_hears_of_it(pool: PgPool) {
        let receivers = [receiver("a", AlertKind::Budget), receiver("b", AlertKind::Budget)];
        let receivers = [&receivers[..], &[receiver("deaf", AlertKind::Unpriced)]].concat();
        let at = "2026-11-23T12:00:00Z".parse().unwrap();
        let told = async |raised: Raised| {
            let raised = [raised];
            let both =
                tokio::join!(raise_all(&pool, &receivers, &raised, at), raise_all(&pool, &receivers, &raised, at));
            both.0.unwrap() + both.1.unwrap()
        };
        assert_eq!(told(raised(80, &[50])).await, 1);
        assert_eq!(told(raised(80, &[50])).await, 0);
        assert_eq!(told(raised(50, &[])).await, 0, "the higher one spoke for it");
        assert_eq!(told(raised(100, &[80, 50])).await, 1);
        let sent: Vec<(String, i64)> =
            sqlx::query_as("select receiver, count(*) from alert_delivery group by receiver order by receiver")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(sent, [("a".to_owned(), 2), ("b".to_owned(), 2)]);
        let shown = alert::list(&mut pool.acquire().await.unwrap(), None, None, 10).await.unwrap();
        assert_eq!(shown.iter().map(|alert| alert.threshold).collect::<Vec<_>>(), [Some(100), Some(80)]);
    }
}
