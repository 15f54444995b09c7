//! Webhooks: a job that ended says so to the address its submitter gave, signed, to public hosts only, at least once.
//! The outbox row is inserted by the transaction that ends the job; what is here delivers it.

mod deliver;
pub mod secrets;
pub mod url;

use chrono::{DateTime, Utc};
use domain::{Job, JobState};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

pub use self::{deliver::deliver_due, url::shown};
pub use crate::outbox::{BadUrl, check_url};

/// What webhooks of a team without a secret of its own are signed with: it follows from the pepper, and nobody is told of it.
fn secret_bytes(pepper: &[u8], team_id: i64) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(pepper) else { return Vec::new() };
    mac.update(format!("webhook:{team_id}").as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The payload that tells of a job's end: `{"type":"job.completed","timestamp":…,"data":{…the job…}}`. Types are
/// `job.completed`, `job.cancelled` and `job.expired`.
pub fn job_ended(job: &Job) -> String {
    #[derive(Serialize)]
    struct Event<'a> {
        r#type: String,
        timestamp: DateTime<Utc>,
        data: &'a Job,
    }
    let state = if job.state.is_terminal() { job.state } else { JobState::Completed };
    let event = Event {
        r#type: format!("job.{}", state.as_str()),
        timestamp: job.finished_at.unwrap_or(job.created_at),
        data: job,
    };
    // Plain data with text keys always serializes.
    serde_json::to_string(&event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Counts, JobId, Lane, Tags, money::Total};

    #[test]
    fn a_secret_is_the_teams_and_the_gateways() {
        let secret = |pepper: &[u8], team| secret_bytes(pepper, team);
        assert_eq!(secret(&[1; 32], 7), secret(&[1; 32], 7));
        assert_ne!(secret(&[1; 32], 7), secret(&[1; 32], 8));
        assert_ne!(secret(&[1; 32], 7), secret(&[2; 32], 7));
    }

    #[test]
    fn the_payload_names_the_end_and_the_job() {
        let at: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let job = Job {
            id: JobId(42),
            state: JobState::Cancelled,
            team: "search".into(),
            lane: Lane::bulk(),
            name: None,
            tags: Tags::default(),
            priority: 0,
            counts: Counts { accepted: 3, cancelled: 3, ..Counts::default() },
            in_flight: 0,
            cost_usd: Total(0),
            max_cost: None,
            unpriced: 0,
            waiting_reason: None,
            waits: None,
            paused_by: Vec::new(),
            pace: domain::progress::ProgressRate::default(),
            retry_of: None,
            after: None,
            created_at: at,
            started_at: None,
            finished_at: Some(at),
            deadline_at: None,
            purge_at: None,
        };
        let payload: serde_json::Value = serde_json::from_str(&job_ended(&job)).unwrap();
        assert_eq!(payload["type"], "job.cancelled");
        assert_eq!(payload["timestamp"], "2026-11-22T12:00:00Z");
        assert_eq!(payload["data"]["id"], JobId(42).to_string());
        assert_eq!(payload["data"]["counts"]["cancelled"], 3);
    }
}
