//! Idempotency keys: the same submission again makes nothing new.

use domain::{JobId, job::JobParams};
use sha2::{Digest, Sha256};
use store::{
    idempotency::{self, Known},
    ingest,
};
use tokio::io::AsyncRead;

use super::{Accepted, Intake, SubmitError, Submitter, source::Source};

pub fn check_key(key: Option<&str>) -> Result<(), SubmitError> {
    if key.is_none_or(|key| (1..=255).contains(&key.len()) && !key.chars().any(char::is_control)) {
        return Ok(());
    }
    Err(SubmitError::param("Idempotency-Key", "it has 1 to 255 bytes, none of them control characters"))
}

/// What the key stands for; `None` when it is free, or when there is none.
pub async fn known(intake: &Intake<'_>, who: Submitter<'_>, key: Option<&str>) -> Result<Option<Known>, SubmitError> {
    let Some(key) = key else { return Ok(None) };
    Ok(idempotency::find(&mut *intake.pool.acquire().await?, who.team_id, key).await?)
}

/// Answers a repetition: the same job for the same upload. It is read to its end only to see that it is the same.
pub async fn answer<R: AsyncRead + Unpin>(
    intake: &Intake<'_>,
    known: Known,
    print: Fingerprint,
    source: &mut Source<R>,
) -> Result<Accepted, SubmitError> {
    let Known::Done { job_id, fingerprint } = known else { return Err(SubmitError::InFlight) };
    source.drain().await?;
    if fingerprint != print.of(source) {
        return Err(SubmitError::Mismatch);
    }
    let accepted = ingest::accepted(&mut *intake.pool.acquire().await?, job_id).await?;
    Ok(Accepted { job_id: JobId(job_id), accepted: accepted.unwrap_or(0), replayed: true })
}

/// Tells whether two submissions are the same: SHA-256 of the unzipped upload and of the parameters beside it. Those inside
/// it are a part of the upload.
pub struct Fingerprint {
    params: Vec<u8>,
}

impl Fingerprint {
    pub fn new(params: &JobParams) -> Self {
        // Serializing plain data into memory cannot fail, and tags are in order.
        Self { params: serde_json::to_vec(params).unwrap_or_default() }
    }

    pub fn of<R: AsyncRead + Unpin>(&self, source: &Source<R>) -> [u8; 32] {
        Sha256::new().chain_update(source.digest()).chain_update(&self.params).finalize().into()
    }
}
