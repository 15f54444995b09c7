//! API keys: made and revoked, each with a line of who did it.

use std::collections::HashSet;

use admission::limits::{self, CheckError, Contradiction};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Action, Lane, Object, Role, catalog::Caps};
use secrecy::ExposeSecret;
use serde_json::json;
use store::{
    audit::{self, Change},
    key::{self, KeyRow},
};

use crate::{
    Engine,
    admit::{Minted, mint},
};

const LONGEST_NAME: usize = 128;
const MOST_LANES: usize = 32;
const MAX_LIFETIME: TimeDelta = TimeDelta::days(3_653);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub team: String,
    pub name: String,
    pub role: Role,
    /// The first is its default for synchronous calls.
    pub lanes: Vec<Lane>,
    pub caps: Caps,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{reason}")]
    Param { name: &'static str, reason: String },
    #[error("there is no lane {:?}", lane.as_str())]
    UnknownLane { lane: Lane, known: Vec<Lane> },
    #[error(transparent)]
    Contradicts(#[from] Contradiction),
    #[error("there is no such key")]
    NotFound,
    #[error(
        "{0} is the last admin key: without it nobody could change anything. Create another admin key first, one that does not expire \
         within a week; then revoke this one"
    )]
    LastAdmin(String),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

impl From<CheckError> for KeyError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Contradiction(contradiction) => contradiction.into(),
            CheckError::Store(error) => error.into(),
        }
    }
}

/// Makes a key. It is in the answer and nowhere else. `by` is the key that asks.
pub async fn create(engine: &Engine, new: NewKey, by: &str) -> Result<(Minted, KeyRow), KeyError> {
    let catalog = engine.catalog.get();
    check(&new, &catalog.lanes.iter().filter(|(_, rule)| !rule.closed).map(|(lane, _)| lane).collect::<Vec<_>>())?;
    check_expiry(new.expires_at, engine.clock.now())?;
    let NewKey { team, name, role, lanes, caps, expires_at } = new;
    let mut tx = engine.pools.api.begin().await?;
    // A limit of its team could change meanwhile, and contradict its own.
    store::config::lock(&mut tx).await?;
    let found = store::team::get_by_name(&mut tx, &team).await?.filter(|team| team.disabled_at.is_none());
    let found = found.ok_or_else(|| param("team", "there is no such team, or it is disabled"))?;
    limits::check_key(&mut tx, &team, found.team_id, caps).await?;
    let minted = mint(engine.pepper.expose_secret());
    let lanes: Vec<String> = lanes.into_iter().map(String::from).collect();
    let row = key::create(
        &mut tx,
        &key::NewKey {
            key_id: &minted.key_id,
            team_id: found.team_id,
            name: &name,
            role: role.as_str(),
            lanes: &lanes,
            mac: &minted.mac,
            slots: caps.slots,
            rpm: caps.rpm,
            tpm: caps.tpm,
            expires_at,
        },
    )
    .await?;
    for (kind, cap) in caps.each() {
        store::limit::set(&mut tx, &limits::key_scope(&row.key_id), kind, cap).await?;
    }
    audit::record_change(&mut tx, line(&row, Action::Create, by)).await?;
    tx.commit().await?;
    // Its caps before the key itself: it may be used the moment it is known.
    let _ = limits::reload(&engine.control).await;
    see_changes(engine).await;
    Ok((minted, row))
}

/// For good; again on a revoked key it changes nothing.
pub async fn revoke(engine: &Engine, key_id: &str, by: &str) -> Result<KeyRow, KeyError> {
    let mut tx = engine.pools.api.begin().await?;
    store::config::lock(&mut tx).await?;
    let before = key::get(&mut tx, key_id).await?.ok_or(KeyError::NotFound)?;
    if key::ends_administration(&mut tx, Some(key_id), None).await? {
        return Err(KeyError::LastAdmin(before.key_id));
    }
    let row = key::revoke(&mut tx, key_id).await?.ok_or(KeyError::NotFound)?;
    if before.revoked_at.is_none() {
        audit::record_change(&mut tx, line(&row, Action::Revoke, by)).await?;
    }
    tx.commit().await?;
    see_changes(engine).await;
    Ok(row)
}

/// This replica follows at once; the others within a second, and so would this one if the look failed.
pub async fn see_changes(engine: &Engine) {
    let _ = engine.keys.refresh(&engine.pools.work).await;
}

fn line<'a>(row: &KeyRow, action: Action, by: &'a str) -> Change<'a> {
    let KeyRow { key_id, team, name, role, lanes, slots, rpm, tpm, expires_at, .. } = row;
    let details = json!({
        "team": team, "name": name, "role": role, "lanes": lanes, "slots": slots, "rpm": rpm, "tpm": tpm,
        "expires_at": expires_at,
    });
    Change { object: Object::Key(key_id.clone()), key_id: Some(by), action, details }
}

fn param(name: &'static str, reason: &str) -> KeyError {
    KeyError::Param { name, reason: reason.to_owned() }
}

fn check(new: &NewKey, known: &[&Lane]) -> Result<(), KeyError> {
    if !(1..=LONGEST_NAME).contains(&new.name.chars().count()) || new.name.chars().any(char::is_control) {
        return Err(param("name", "a key's name has 1 to 128 characters"));
    }
    if !(1..=MOST_LANES).contains(&new.lanes.len()) {
        return Err(param("lanes", "a key has 1 to 32 lanes"));
    }
    if new.lanes.iter().collect::<HashSet<_>>().len() != new.lanes.len() {
        return Err(param("lanes", "a lane stands there twice"));
    }
    if let Some(unknown) = new.lanes.iter().find(|lane| !known.contains(lane)) {
        let known = known.iter().map(|lane| (*lane).clone()).collect();
        return Err(KeyError::UnknownLane { lane: unknown.clone(), known });
    }
    match new.caps.each().find(|(_, cap)| *cap < 1) {
        Some((kind, _)) => Err(param(kind, "a cap is at least 1; leave it out for none")),
        None => Ok(()),
    }
}

fn check_expiry(expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), KeyError> {
    match expires_at {
        Some(at) if at <= now => {
            Err(param("expires_at", &format!("expires_at must be later than now, {now} (got {at})")))
        }
        Some(at) if at > now + MAX_LIFETIME => {
            let reason =
                format!("expires_at must be within ten years (got {at}); leave it out for a key that does not expire");
            Err(param("expires_at", &reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let good = || NewKey {
            team: "t".into(),
            name: "n".into(),
            role: Role::Submit,
            lanes: vec![Lane::prod()],
            caps: Caps { rpm: Some(1), ..Caps::default() },
            expires_at: None,
        };
        let said = |new: NewKey| match check(&new, &[&Lane::prod(), &Lane::bulk()]) {
            Ok(()) => None,
            Err(KeyError::Param { name, .. }) => Some(name),
            Err(KeyError::UnknownLane { .. }) => Some("unknown lane"),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(said(good()), None);
        assert_eq!(said(NewKey { name: String::new(), ..good() }), Some("name"));
        assert_eq!(said(NewKey { lanes: Vec::new(), ..good() }), Some("lanes"));
        assert_eq!(said(NewKey { lanes: vec![Lane::bulk(), Lane::bulk()], ..good() }), Some("lanes"));
        assert_eq!(said(NewKey { lanes: vec![Lane::standard()], ..good() }), Some("unknown lane"));
        let caps = Caps { slots: Some(0), ..Caps::default() };
        assert_eq!(said(NewKey { caps, ..good() }), Some("slots"));
    }
    #[test]
    fn an_expiry_lies_ahead_and_not_too_far() {
        let now = DateTime::UNIX_EPOCH;
        let is_taken = |expires_at: Option<DateTime<Utc>>| check_expiry(expires_at, now).is_ok();
        assert!(is_taken(None) && is_taken(Some(now + TimeDelta::seconds(1))) && is_taken(Some(now + MAX_LIFETIME)));
        for at in [now, now - TimeDelta::days(1), now + MAX_LIFETIME + TimeDelta::seconds(1), DateTime::<Utc>::MAX_UTC]
        {
            assert!(matches!(check_expiry(Some(at), now), Err(KeyError::Param { name: "expires_at", .. })), "{at}");
        }
    }
}
