//! A new job that waits for another one of its team.

use domain::{After, AfterOn};
use store::{PgConnection, after, after::Other, ingest::Begin};

use super::{Intake, SubmitError};

/// Refuses what could never run, before the upload is taken. A cycle cannot come of it: nothing waits for a job that is not there.
pub async fn check(intake: &Intake<'_>, team_id: i64, wanted: Option<After>) -> Result<(), SubmitError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let mut tx = intake.pool.begin().await?;
    let other = after::look(&mut tx, team_id, wanted.job).await?;
    let other = other.ok_or(SubmitError::NoSuchJob { job: wanted.job })?;
    let followers = after::followers(&mut tx, wanted.job).await?;
    tx.rollback().await?;
    if other == Other::Unclean && wanted.on == AfterOn::Success {
        return Err(SubmitError::param(
            "after",
            format!("{} has ended, and not every request of it succeeded; use {}:end", wanted.job, wanted.job),
        ));
    }
    if other == Other::Unended && followers >= after::MOST_FOLLOWERS {
        let most = after::MOST_FOLLOWERS;
        return Err(SubmitError::param("after", format!("{most} jobs wait for {} already; no more may", wanted.job)));
    }
    Ok(())
}

/// What becomes of a job whose upload is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Begins(Begin),
    /// The other job ended unclean while the upload was coming in.
    IsCancelled,
}

/// In the transaction that makes the job runnable, which holds back the other one's end.
pub async fn fate(conn: &mut PgConnection, team_id: i64, wanted: Option<After>) -> store::Result<Fate> {
    let Some(wanted) = wanted else { return Ok(Fate::Begins(Begin::AtOnce)) };
    Ok(match after::look(conn, team_id, wanted.job).await? {
        Some(Other::Unended) => Fate::Begins(Begin::Held),
        Some(Other::Unclean) if wanted.on == AfterOn::Success => Fate::IsCancelled,
        _ => Fate::Begins(Begin::AtOnce),
    })
}
