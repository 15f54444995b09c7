//! What a job's failed requests have in common.

use domain::{
    FailureGroup, Failures, JobId,
    failure::{CANCELLED, EXPIRED},
};

use super::{JobError, Scope};
use crate::Engine;

/// The most failures that are examined, and the most groups that are returned.
const MOST: i64 = 100_000;
const MOST_GROUPS: i64 = 100;

/// The job's failures by reason, the largest group first; also while it runs.
pub async fn failures(engine: &Engine, scope: Scope, id: JobId) -> Result<Failures, JobError> {
    let mut conn = engine.pools.api.acquire().await?;
    let job = store::job::get(&mut conn, scope, id).await?.ok_or(JobError::NotFound)?;
    if store::result::source(&mut conn, id.0).await?.is_none_or(|source| source.purged) {
        return Err(JobError::Purged);
    }
    let mut groups = store::failure::groups(&mut conn, id.0, MOST, MOST_GROUPS).await?;
    let counts = &job.counts;
    // As result lines name them.
    let unfinished = if counts.expired > 0 { EXPIRED } else { CANCELLED };
    if counts.cancelled + counts.expired > 0 {
        groups.push(FailureGroup {
            error: unfinished.to_owned(),
            status: None,
            deployment: None,
            count: counts.cancelled + counts.expired,
            line: None,
            message: None,
        });
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    }
    Ok(Failures { groups, failed: counts.failed, examined: counts.failed.min(MOST) })
}
