//! What goes wrong beside money: providers, failed requests, the lake, prices.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use admission::catalog::ActiveCatalog;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AlertKind, Endpoint,
    alert::{Field, Said},
};
use store::{
    alert::{FailedJob, Key},
    key::ExpiringKey,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Raised, raise::raise_all};
use crate::Notifier;

/// A deployment that has failed for this long is down.
const DOWN_AFTER: Duration = Duration::from_secs(60);
const OUTAGE_REPEAT_INTERVAL: TimeDelta = TimeDelta::hours(1);
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The ledger is exported every quarter of a minute.
const LATE_AFTER: TimeDelta = TimeDelta::minutes(15);
const LATE_REPEAT_INTERVAL: TimeDelta = TimeDelta::hours(6);
const UNPRICED_REPEAT_INTERVAL: TimeDelta = TimeDelta::days(7);
/// An alert about a job is raised once: no job runs this long.
const JOB_REPEAT_INTERVAL: TimeDelta = TimeDelta::days(90);
/// Days before a key expires at which it is told of.
const KEY_EXPIRES_IN: [i64; 2] = [14, 2];
/// Looked at together; the rest comes next time.
const MOST_JOBS: i64 = 1_000;
const MOST_KEYS: i64 = 1_000;
const JOBS_NAMED: usize = 5;

/// Tells of deployments that are down as this replica sees them. Each replica looks at its own calls.
/// `down_for`: the deployments that have failed for at least this long.
pub async fn tell_of_outages(
    notifier: Arc<Notifier>,
    down_for: impl Fn(Duration) -> Vec<String> + Send,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let now = notifier.clock.now();
        let down: Vec<Raised> = down_for(DOWN_AFTER).iter().map(|name| outage(name, now)).collect();
        if let Err(error) = raise_all(&notifier.pools.work, &notifier.receivers, &down, now).await {
            warn!(%error, "An alert about an outage could not be raised; trying again");
        }
    }
}

/// Tells of everything else, as the database knows it. Gives the number of new alerts.
pub async fn tell_of_troubles(notifier: &Notifier, catalog: &ActiveCatalog) -> store::Result<usize> {
    let now = notifier.clock.now();
    let mut conn = notifier.pools.work.acquire().await?;
    let failed = store::alert::failed_jobs(&mut conn, MOST_JOBS).await?;
    let oldest = store::alert::oldest_unexported(&mut conn).await?;
    let expiring = store::key::expiring(&mut conn, KEY_EXPIRES_IN[0] as i32, MOST_KEYS).await?;
    drop(conn);
    let mut raised = dead_letters(failed, now);
    raised.extend(oldest.filter(|oldest| now - *oldest > LATE_AFTER).map(|oldest| lake_behind(oldest, now)));
    raised.extend(unpriced(catalog, now));
    raised.extend(expiring.iter().map(|key| key_expires(key, now)));
    raise_all(&notifier.pools.work, &notifier.receivers, &raised, now).await
}

fn key(kind: AlertKind, about: impl ToString, now: DateTime<Utc>, again: TimeDelta) -> Key {
    Key { kind, about: about.to_string(), threshold: 0, since: now, until: Some(now + again) }
}

fn of_nobody(key: Key, title: String, text: String) -> Raised {
    let said = Said { title, text, fields: Vec::new() };
    Raised { object: key.about.clone(), key, team: None, said, silent: Vec::new() }
}

fn outage(deployment: &str, now: DateTime<Utc>) -> Raised {
    let key = key(AlertKind::ProviderDown, deployment, now, OUTAGE_REPEAT_INTERVAL);
    let text = format!(
        "Calls to the deployment {deployment} have failed for more than {} s. Its routes use their next deployment; where there is \
         none, requests of jobs wait, and synchronous calls fail. It is probed until it answers.",
        DOWN_AFTER.as_secs(),
    );
    of_nobody(key, format!("Deployment {deployment} is down"), text)
}

fn lake_behind(oldest: DateTime<Utc>, now: DateTime<Utc>) -> Raised {
    let minutes = (now - oldest).num_minutes();
    let text = format!(
        "The oldest ledger row that is in no file of the lake was written {minutes} minutes ago. Reports are without what came since; \
         nothing is lost, the rows stay in the database. The log of the replicas with the role maintenance says why."
    );
    of_nobody(key(AlertKind::LakeBehind, "lake", now, LATE_REPEAT_INTERVAL), "The lake is behind".to_owned(), text)
}

/// Told once at each of [`KEY_EXPIRES_IN`]; the later one speaks for the earlier, should that not have been told.
fn key_expires(expiring: &ExpiringKey, now: DateTime<Utc>) -> Raised {
    let ExpiringKey { key_id, team, name, role, expires_at } = expiring;
    // Each holds until the next one is due.
    let next = |days: i64| KEY_EXPIRES_IN.iter().copied().filter(|next| *next < days).max().unwrap_or(0);
    let before = |days: i64| *expires_at - TimeDelta::days(days);
    let at = |days: i64| Key {
        since: before(days),
        until: Some(before(next(days))),
        ..key(AlertKind::KeyExpires, key_id, now, OUTAGE_REPEAT_INTERVAL)
    };
    let due: Vec<i64> = KEY_EXPIRES_IN.into_iter().filter(|days| before(*days) <= now).collect();
    // The query found it within the first of them.
    let last = due.last().copied().unwrap_or(KEY_EXPIRES_IN[0]);
    let when = expires_at.format("%Y-%m-%d %H:%M UTC");
    let text = format!(
        "The {role} key {key_id} ({name:?}) of team {team} expires at {when}; from then on it is refused. Create a new one with `tollway \
         keys create --team {team} --role {role}`, give it to the programs that use this one, then revoke this one."
    );
    let silent = due.iter().filter(|days| **days != last).map(|days| at(*days)).collect();
    let raised = of_nobody(at(last), format!("API key {key_id} of team {team} expires at {when}"), text);
    Raised { team: Some(team.clone()), silent, ..raised }
}

/// Deployments that are routed to and have no price.
fn unpriced(catalog: &ActiveCatalog, now: DateTime<Utc>) -> Vec<Raised> {
    let routed = catalog.routes.values().flat_map(|route| &route.deployments);
    let unpriced: BTreeMap<&str, &str> = routed
        // A price for input is enough: whether anybody asks an embeddings model for output is not known here.
        .filter(|deployment| !deployment.is_priced(Endpoint::Embeddings, now))
        .map(|deployment| (&*deployment.name, deployment.spec.model.as_str()))
        .collect();
    let alert = |(deployment, model): (&str, &str)| {
        let text = format!(
            "No price is known of the model {model} of the deployment {deployment}. Its calls are refused, or are in the ledger without a \
             cost where their route allows it. Declare its price under [[prices]]."
        );
        let key = Key {
            about: format!("{deployment} {model}"),
            ..key(AlertKind::Unpriced, "", now, UNPRICED_REPEAT_INTERVAL)
        };
        Raised { object: deployment.to_owned(), ..of_nobody(key, format!("Model {model} has no price"), text) }
    };
    unpriced.into_iter().map(alert).collect()
}

/// One for each team, about its newest job, which speaks for the others.
fn dead_letters(failed: Vec<FailedJob>, now: DateTime<Utc>) -> Vec<Raised> {
    let mut by_team = BTreeMap::<String, Vec<FailedJob>>::new();
    for job in failed {
        by_team.entry(job.team.clone()).or_default().push(job);
    }
    let alert = |(team, jobs): (String, Vec<FailedJob>)| {
        let mut keys = jobs.iter().map(|job| key(AlertKind::DeadLetters, job.job_id.0, now, JOB_REPEAT_INTERVAL));
        let (first, newest) = (keys.next()?, jobs.first()?);
        let requests: i64 = jobs.iter().map(|job| job.failed).sum();
        let title = match jobs.len() {
            1 => format!("{} of job {} failed", counted(requests), newest.job_id),
            n => format!("{} of {n} jobs of {team} failed", counted(requests)),
        };
        let text = format!(
            "They are not tried again by themselves. `tollway jobs failures {}` says why they failed, `tollway jobs retry` makes a job of \
             them.",
            newest.job_id
        );
        let named = jobs.iter().take(JOBS_NAMED);
        let fields = named.map(|job| Field::new(&job.job_id.to_string(), format!("{} failed", job.failed))).collect();
        let said = Said { title, text, fields };
        let object = newest.job_id.to_string();
        Some(Raised { key: first, object, team: Some(team), said, silent: keys.collect() })
    };
    by_team.into_iter().filter_map(alert).collect()
}

fn counted(requests: i64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") }
}

#[cfg(test)]
mod tests {
    use domain::{Catalog, JobId};
    use serde_json::json;

    use super::*;
    use crate::alerts::message::tests::assert_sent;

    fn now() -> DateTime<Utc> {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_team_is_told_of_its_failed_jobs_together() {
        let job = |team: &str, id, failed| FailedJob { job_id: JobId(id), team: team.into(), failed };
        let raised = dead_letters(vec![job("a", 3, 2), job("b", 9, 1), job("b", 8, 4), job("b", 7, 5)], now());
        let heard: Vec<_> = raised.iter().map(|one| (one.team.as_deref(), one.key.about.as_str())).collect();
        assert_eq!(heard, [(Some("a"), "3"), (Some("b"), "9")]);
        assert_eq!(raised[0].said.title, format!("2 requests of job {} failed", JobId(3)));
        assert_eq!(raised[1].said.title, "10 requests of 3 jobs of b failed");
        assert_eq!(
            dead_letters(vec![job("a", 3, 1)], now())[0].said.title,
            format!("1 request of job {} failed", JobId(3))
        );
        assert_eq!(raised[1].silent.iter().map(|key| key.about.as_str()).collect::<Vec<_>>(), ["8", "7"]);
    }

    #[test]
    fn the_end_of_a_key_is_told_two_weeks_and_two_days_ahead() {
        let expires = |days: i64| ExpiringKey {
            key_id: "aaaaaaaaaaaa".into(),
            team: "search".into(),
            name: "ci".into(),
            role: "submit".into(),
            expires_at: now() + TimeDelta::days(days),
        };
        let told = |days: i64| {
            let raised = key_expires(&expires(days), now());
            (raised.key.since - now(), raised.silent.len())
        };
        assert_eq!(told(14), (TimeDelta::zero(), 0));
        assert_eq!(told(10), (TimeDelta::days(-4), 0), "the same alert as four days ago");
        assert_eq!(told(2), (TimeDelta::zero(), 1), "another one, which speaks for the first");
        assert_eq!(told(1), (TimeDelta::days(-1), 1));
        let said = key_expires(&expires(2), now()).said;
        assert!(said.title.contains("aaaaaaaaaaaa") && said.text.contains("2026-11-25 12:00 UTC"), "{said:?}");
    }

    #[test]
    fn the_lake_and_outages_are_told_again_while_they_last() {
        let late = lake_behind(now() - TimeDelta::minutes(20), now());
        assert!(late.said.text.contains("20 minutes ago"), "{}", late.said.text);
        assert_eq!((late.key.since, late.key.until), (now(), Some(now() + LATE_REPEAT_INTERVAL)));
        assert_eq!(outage("only", now()).object, "only");
    }
    #[test]
    fn what_is_sent() {
        assert_sent("provider_down", &outage("only", now()));
        assert_sent("lake_behind", &lake_behind(now() - TimeDelta::minutes(20), now()));
        let job = |id, failed| FailedJob { job_id: JobId(id), team: "search".into(), failed };
        assert_sent("dead_letters", &dead_letters(vec![job(9, 1), job(8, 4)], now())[0]);
        let catalog: Catalog = serde_json::from_value(json!({
            "deployments": {"d": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "own"}},
            "routes": {"chat": {"deployments": ["d"], "allow_unpriced": true}},
        }))
        .unwrap();
        assert_sent("unpriced", &unpriced(&ActiveCatalog::build(1, catalog).unwrap(), now())[0]);
    }
}
