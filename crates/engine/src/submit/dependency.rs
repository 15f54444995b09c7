//! A new job that waits for another one of its team.

use domain::{After, AfterOn};
use store::{PgConnection, dependency, dependency::Other, ingest::Begin};

use super::{Intake, SubmitError};

/// Refuses what could never run, before the upload is taken. A cycle cannot come of it: nothing waits for a job that is not there.
pub async fn check(intake: &Intake<'_>, team_id: i64, wanted: Option<After>) -> Result<(), SubmitError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let mut tx = intake.pool.begin().await?;
    let other = dependency::look(&mut tx, team_id, wanted.job).await?;
    let other = other.ok_or(SubmitError::NoSuchJob { job: wanted.job })?;
    let followers = dependency::followers(&mut tx, wanted.job).await?;
    tx.rollback().await?;
    if other == Other::Unclean && wanted.on == AfterOn::Success {
        return Err(SubmitError::param(
            "after",
            format!("{} has ended, and not every request of it succeeded; use {}:end", wanted.job, wanted.job),
        ));
    }
    if other == Other::Unended && followers >= dependency::MOST_FOLLOWERS {
        let most = dependency::MOST_FOLLOWERS;
        return Err(SubmitError::param("after", format!("{most} jobs wait for {} already; no more may", wanted.job)));
    }
    Ok(())
}

/// What becomes of a job whose upload is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartDecision {
    Begins(Begin),
    /// The other job ended unclean while the upload was coming in.
    IsCancelled,
}

/// Called in the transaction that makes the job runnable; the other job cannot end before it commits.
pub async fn start_decision(
    conn: &mut PgConnection,
    team_id: i64,
    wanted: Option<After>,
) -> store::Result<StartDecision> {
    let Some(wanted) = wanted else { return Ok(StartDecision::Begins(Begin::AtOnce)) };
    Ok(match dependency::look(conn, team_id, wanted.job).await? {
        Some(Other::Unended) => StartDecision::Begins(Begin::WaitingOnJob),
        Some(Other::Unclean) if wanted.on == AfterOn::Success => StartDecision::IsCancelled,
        _ => StartDecision::Begins(Begin::AtOnce),
    })
}
