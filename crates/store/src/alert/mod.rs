//! Alerts: each told once, with the deliveries that tell it.

mod delivery;
mod trouble;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    Alert, AlertKind,
    alert::{Delivery, Said},
};
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

pub use delivery::{Due, NewDelivery, delivered, failed, send, take};
pub use trouble::{FailedJob, failed_jobs, oldest_unexported};

use crate::Result;

/// What is told once: this, of that, at this threshold, from one moment to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub kind: AlertKind,
    pub about: String,
    pub threshold: i32,
    pub since: DateTime<Utc>,
    /// When it may be told anew; `None`: never.
    pub until: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub struct NewAlert<'a> {
    pub alert_id: Uuid,
    pub key: &'a Key,
    pub object: &'a str,
    pub team: Option<&'a str>,
    pub said: &'a Said,
    pub at: DateTime<Utc>,
    /// Another one speaks for it.
    pub is_silent: bool,
}

/// Locks out other alerts until this transaction ends.
pub async fn lock(conn: &mut PgConnection) -> Result<()> {
    query!("select pg_advisory_xact_lock(hashtext('tollway_alert'))").fetch_one(conn).await?;
    Ok(())
}

/// Which of these were not told yet, by their place.
pub async fn untold(conn: &mut PgConnection, keys: &[Key], at: DateTime<Utc>) -> Result<Vec<usize>> {
    let kinds: Vec<String> = keys.iter().map(|key| key.kind.as_str().to_owned()).collect();
    let abouts: Vec<String> = keys.iter().map(|key| key.about.clone()).collect();
    let thresholds: Vec<i32> = keys.iter().map(|key| key.threshold).collect();
    let since: Vec<DateTime<Utc>> = keys.iter().map(|key| key.since).collect();
    let places = query_scalar!(
        r#"select k.n as "n!"
           from unnest($1::text[], $2::text[], $3::integer[], $4::timestamptz[]) with ordinality
                    as k(kind, about, threshold, since, n)
           where not exists (
               select from alert a
               where a.kind = k.kind and a.about = k.about and a.threshold = k.threshold
                 and (a.since = k.since or coalesce(a.until, 'infinity') > $5))
           order by k.n"#,
        &kinds,
        &abouts,
        &thresholds,
        &since,
        at,
    )
    .fetch_all(conn)
    .await?;
    Ok(places.into_iter().filter_map(|n| usize::try_from(n - 1).ok()).collect())
}

/// False, with nothing written, when it was told already. After [`lock`], in its transaction.
pub async fn insert(conn: &mut PgConnection, new: &NewAlert<'_>) -> Result<bool> {
    let done = query!(
        "insert into alert (alert_id, kind, about, object, team, threshold, since, until, is_silent, said, raised_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
         where not exists (
             select from alert
             where kind = $2 and about = $3 and threshold = $6 and coalesce(until, 'infinity') > $11)
         on conflict do nothing",
        new.alert_id,
        new.key.kind.as_str(),
        new.key.about,
        new.object,
        new.team,
        new.key.threshold,
        new.key.since,
        new.key.until,
        new.is_silent,
        Json(new.said) as _,
        new.at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

struct Row {
    alert_id: Uuid,
    kind: String,
    object: String,
    team: Option<String>,
    threshold: i32,
    since: DateTime<Utc>,
    raised_at: DateTime<Utc>,
    said: Json<Said>,
    deliveries: Json<Vec<Delivery>>,
}

/// Those that were told, the newest first, at most `limit` of those before `before`. `only`: that one.
pub async fn list(conn: &mut PgConnection, only: Option<Uuid>, before: Option<Uuid>, limit: i64) -> Result<Vec<Alert>> {
    let rows = query_as!(
        Row,
        r#"select a.alert_id, a.kind, a.object, a.team, a.threshold, a.since, a.raised_at, a.said as "said: Json<Said>",
                  coalesce(d.deliveries, '[]') as "deliveries!: Json<Vec<Delivery>>"
           from alert a
           cross join lateral (
               select jsonb_agg(jsonb_build_object(
                          'receiver', receiver,
                          'state', case when delivered_at is not null then 'delivered'
                                        when given_up_at is not null then 'given_up' else 'waiting' end,
                          'tries', tries,
                          'last_error', last_error,
                          'next_try_at', case when delivered_at is null and given_up_at is null then next_try_at end,
                          'delivered_at', delivered_at) order by receiver) as deliveries
               from alert_delivery where alert_id = a.alert_id
           ) d
           where not a.is_silent and ($1::uuid is null or a.alert_id = $1) and ($2::uuid is null or a.alert_id < $2)
           order by a.alert_id desc limit $3"#,
        only,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Row::shown).collect()
}

impl Row {
    fn shown(self) -> Result<Alert> {
        let unknown = || sqlx::Error::Decode(format!("an alert of the kind {:?}", self.kind).into());
        Ok(Alert {
            id: self.alert_id,
            kind: AlertKind::from_word(&self.kind).ok_or_else(unknown)?,
            object: self.object,
            team: self.team,
            threshold: Some(self.threshold).filter(|percent| *percent > 0),
            since: self.since,
            raised_at: self.raised_at,
            said: self.said.0,
            deliveries: self.deliveries.0,
        })
    }
}

/// Forgets alerts that are older than `keep` and may be told anew; gives their number.
pub async fn prune(conn: &mut PgConnection, keep: Duration) -> Result<u64> {
    let done = query!(
        "delete from alert where raised_at < now() - make_interval(secs => $1) and until < now()",
        keep.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests;
