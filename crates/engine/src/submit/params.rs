//! The parameters of the job, checked and completed with defaults.

use admission::catalog::ActiveCatalog;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{After, Lane, Tags, catalog::LaneRule, job::JobParams, money::Total};
use notify::webhook;

use super::{SubmitError, Submitter};
use crate::Settings;

const LONGEST_NAME: usize = 200;

/// A job that can be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub lane: Lane,
    pub name: Option<String>,
    pub tags: Tags,
    pub priority: i16,
    pub max_attempts: i16,
    pub start_at: Option<DateTime<Utc>>,
    pub deadline: Option<DateTime<Utc>>,
    pub after: Option<After>,
    pub max_cost: Option<Total>,
    pub webhook: Option<String>,
}

pub fn plan(
    params: JobParams,
    who: &Submitter<'_>,
    catalog: &ActiveCatalog,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Result<Plan, SubmitError> {
    let lane = lane(params.lane, who.lanes, catalog)?;
    let rule = catalog.lanes.get(&lane);
    let priority = params.priority.unwrap_or(0);
    if !(-100..=100).contains(&priority) {
        return Err(SubmitError::param("priority", format!("{priority} is not between -100 and 100")));
    }
    let max_attempts = params.max_attempts.or(rule.map(LaneRule::max_attempts)).unwrap_or(LaneRule::MAX_ATTEMPTS);
    if !(1..=100).contains(&max_attempts) {
        return Err(SubmitError::param("max_attempts", format!("{max_attempts} is not between 1 and 100")));
    }
    if let Some(name) = &params.name
        && (name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control))
    {
        return Err(SubmitError::param(
            "name",
            format!("it has 1 to {LONGEST_NAME} characters, none of them control characters"),
        ));
    }
    let start = params.start_at.unwrap_or(now).max(now);
    // A start at the end of the calendar leaves no room for a lane's deadline; the job has none then.
    let usual = rule
        .and_then(|rule| rule.deadline_s)
        .and_then(|seconds| start.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?));
    if let Some(deadline) = params.deadline {
        if deadline <= now {
            return Err(SubmitError::param("deadline", format!("{deadline} has passed; it is {now}")));
        }
        if params.start_at.is_some_and(|start| start >= deadline) {
            return Err(SubmitError::param("start_at", "it is not before the deadline"));
        }
    }
    if let Some(most) = params.max_cost.filter(|most| most.0 <= 0) {
        return Err(SubmitError::param("max_cost", format!("${most} is not above zero")));
    }
    if let Some(url) = &params.webhook {
        webhook::check_url(url, settings.webhooks_to_private_hosts)
            .map_err(|bad| SubmitError::param("webhook", bad.to_string()))?;
    }
    Ok(Plan {
        lane,
        name: params.name,
        tags: params.tags,
        priority,
        max_attempts,
        start_at: params.start_at,
        deadline: params.deadline.or(usual),
        after: params.after,
        max_cost: params.max_cost,
        webhook: params.webhook,
    })
}

/// The lane asked for; else `bulk` where the key may use it, else the key's first.
fn lane(asked: Option<Lane>, allowed: &[Lane], catalog: &ActiveCatalog) -> Result<Lane, SubmitError> {
    let bulk = || allowed.iter().find(|lane| **lane == Lane::bulk() && catalog.lanes.contains_key(*lane)).cloned();
    let lane = asked.or_else(bulk).or_else(|| allowed.first().cloned()).unwrap_or_else(Lane::bulk);
    check_lane(lane.as_str(), catalog)?;
    if !allowed.contains(&lane) {
        return Err(SubmitError::LaneNotAllowed { lane: lane.to_string(), allowed: list(allowed) });
    }
    Ok(lane)
}

/// Whether a lane takes new work.
pub(super) fn check_lane(lane: &str, catalog: &ActiveCatalog) -> Result<(), SubmitError> {
    match catalog.lanes.iter().find(|(known, _)| known.as_str() == lane) {
        Some((_, rule)) if rule.closed => {
            Err(SubmitError::LaneClosed { lane: lane.to_owned(), open: catalog.open_lanes() })
        }
        Some(_) => Ok(()),
        None => Err(SubmitError::UnknownLane { lane: lane.to_owned(), known: catalog.open_lanes() }),
    }
}

fn list<'a>(lanes: impl IntoIterator<Item = &'a Lane>) -> String {
    lanes.into_iter().map(Lane::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn check(params: JobParams, lanes: &[Lane]) -> Result<Plan, String> {
        let catalog = ActiveCatalog::build(1, domain::Catalog::default()).unwrap();
        let who = Submitter { team_id: 1, key_id: "k", lanes };
        plan(params, &who, &catalog, &Settings::default(), now()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_lane_is_the_one_asked_for_or_bulk_or_the_keys_first() {
        let asked = |lane: Option<&str>, lanes: &[Lane]| {
            check(JobParams { lane: lane.map(|l| l.parse().unwrap()), ..JobParams::default() }, lanes)
                .map(|plan| plan.lane)
        };
        assert_eq!(asked(None, &[Lane::prod(), Lane::bulk()]), Ok(Lane::bulk()));
        assert_eq!(asked(None, &[Lane::prod(), Lane::standard()]), Ok(Lane::prod()));
        assert_eq!(asked(Some("prod"), &[Lane::bulk(), Lane::prod()]), Ok(Lane::prod()));
        assert_eq!(
            asked(Some("bulkk"), &[Lane::bulk()]).unwrap_err(),
            "lane: there is no lane \"bulkk\"; there are bulk, prod, standard"
        );
        assert_eq!(
            asked(Some("prod"), &[Lane::bulk()]).unwrap_err(),
            "lane: this key may not use \"prod\"; it may use bulk"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |params: JobParams| check(params, &[Lane::bulk()]).unwrap_err();
        let soon = Some(now() + TimeDelta::seconds(1));
        assert!(refused(JobParams { deadline: Some(now()), ..JobParams::default() }).starts_with("deadline: "));
        assert!(
            refused(JobParams { deadline: soon, start_at: soon, ..JobParams::default() }).starts_with("start_at: ")
        );
        assert!(refused(JobParams { priority: Some(101), ..JobParams::default() }).starts_with("priority: "));
        assert_eq!(
            refused(JobParams { max_cost: Some(Total(0)), ..JobParams::default() }),
            "max_cost: $0.00 is not above zero"
        );
        assert!(refused(JobParams { max_attempts: Some(0), ..JobParams::default() }).starts_with("max_attempts: "));
        assert!(refused(JobParams { name: Some("a\0".into()), ..JobParams::default() }).starts_with("name: "));
        for url in ["ftp://example.com/", "http://127.0.0.1/", "nonsense"] {
            assert!(
                refused(JobParams { webhook: Some(url.into()), ..JobParams::default() }).starts_with("webhook: "),
                "{url}"
            );
        }
    }

    #[test]
    fn the_lane_gives_its_deadline_and_its_tries_to_jobs_that_name_none() {
        let mut catalog = ActiveCatalog::build(1, domain::Catalog::default()).unwrap();
        if let Some(bulk) = catalog.lanes.get_mut(&Lane::bulk()) {
            (bulk.deadline_s, bulk.max_attempts) = (Some(60), Some(2));
        }
        let who = Submitter { team_id: 1, key_id: "k", lanes: &[Lane::bulk()] };
        let planned = |params| plan(params, &who, &catalog, &Settings::default(), now()).unwrap();
        let usual = planned(JobParams::default());
        assert_eq!((usual.deadline, usual.max_attempts), (Some(now() + TimeDelta::seconds(60)), 2));
        let start = now() + TimeDelta::hours(1);
        let later = planned(JobParams { start_at: Some(start), ..JobParams::default() });
        assert_eq!(later.deadline, Some(start + TimeDelta::seconds(60)));
        let last = DateTime::<Utc>::MAX_UTC;
        assert_eq!(planned(JobParams { start_at: Some(last), ..JobParams::default() }).deadline, None);
        let own = planned(JobParams { deadline: Some(start), max_attempts: Some(7), ..JobParams::default() });
        assert_eq!((own.deadline, own.max_attempts), (Some(start), 7));
    }

    #[test]
    fn a_closed_lane_takes_nothing_new() {
        let mut catalog = ActiveCatalog::build(1, domain::Catalog::default()).unwrap();
        catalog.lanes.insert(Lane::bulk(), catalog.lanes[&Lane::bulk()].closing());
        let said = lane(None, &[Lane::standard(), Lane::bulk()], &catalog).unwrap_err().to_string();
        assert_eq!(
            said,
            "lane: \"bulk\" is closed: what is in it is served, and it takes nothing new; there are prod, standard"
        );
        assert_eq!(lane(Some(Lane::standard()), &[Lane::standard()], &catalog).unwrap(), Lane::standard());
    }

    #[test]
    fn what_was_not_said_has_its_default() {
        let plan = check(JobParams::default(), &[Lane::bulk()]).unwrap();
        assert_eq!((plan.priority, plan.max_attempts), (0, 5));
        let params = JobParams { webhook: Some("https://hooks.example.com/a".into()), ..JobParams::default() };
        assert!(check(params, &[Lane::bulk()]).is_ok());
    }
}
