//! Recurring jobs: lines that are kept, and submitted whenever a cron expression says so.

mod tick;

use async_compression::tokio::bufread::GzipEncoder;
use domain::{
    Action, JobId, Object, Schedule, ScheduleId,
    cron::{BadWhen, When},
    ids::time_id,
    job::JobParams,
};
use notify::webhook;
use secrecy::ExposeSecret;
use serde_json::json;
use store::{
    audit::{self, Change},
    job::Scope,
    schedule::{self, NewSchedule, ScheduleRow},
};
use tokio::io::{AsyncRead, AsyncReadExt};

pub use self::tick::run_due;
use crate::{
    Engine,
    submit::{self, Format, Intake, Submission, SubmitError, Submitter},
};

/// Of a schedule's lines, unzipped. They are read into memory at each tick.
pub const MOST_BYTES: u64 = 16 << 20;
/// Of one team.
pub const MOST: i64 = 100;
const LONGEST_NAME: usize = 200;

/// What is asked for; the lines come with it.
#[derive(Debug, Clone)]
pub struct ScheduleSpec {
    pub name: String,
    pub cron: String,
    pub time_zone: String,
    pub skip_if_running: bool,
    /// Of each job. They go before what the lines say.
    pub params: JobParams,
}

#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("{name}: {reason}")]
    Param { name: &'static str, reason: String },
    #[error("the team has a schedule of the name {0:?} already, or {MOST} schedules")]
    Taken(String),
    /// Or it is another team's.
    #[error("there is no such schedule")]
    NotFound,
    #[error(transparent)]
    Lines(#[from] SubmitError),
}

impl From<store::Error> for ScheduleError {
    fn from(error: store::Error) -> Self {
        Self::Lines(error.into())
    }
}

/// Checks the lines as a submission would be, and keeps them.
pub async fn create<R: AsyncRead + Unpin + Send>(
    engine: &Engine,
    who: Submitter<'_>,
    wanted: ScheduleSpec,
    body: R,
) -> Result<Schedule, ScheduleError> {
    let param = |name, reason: String| ScheduleError::Param { name, reason };
    let name_fits = (1..=LONGEST_NAME).contains(&wanted.name.chars().count());
    if !name_fits || wanted.name.chars().any(char::is_control) {
        return Err(param("name", format!("it has 1 to {LONGEST_NAME} characters, none of them control characters")));
    }
    let when = When::read(&wanted.cron, &wanted.time_zone).map_err(|bad| match bad {
        BadWhen::Zone(_) => param("time_zone", bad.to_string()),
        _ => param("cron", bad.to_string()),
    })?;
    let now = engine.clock.now();
    let next_at = when.after(now).map_err(|bad| param("cron", bad.to_string()))?;
    // Its lines are held in memory, so they take the room of an upload.
    let place = engine.upload_permits.take(who).await?;
    let read = submit::read_whole(place.watch(body), MOST_BYTES).await;
    let (lines, said) = read.map_err(|error| place.explain(error))?;
    let params = said.overridden_by(wanted.params.clone());
    let moments = [
        ("deadline", params.deadline.is_some()),
        ("start_at", params.start_at.is_some()),
        ("after", params.after.is_some()),
    ];
    if let Some((name, _)) = moments.into_iter().find(|(_, is_said)| *is_said) {
        return Err(param(name, "it is of one job, and a schedule makes many".to_owned()));
    }
    let submission =
        Submission { params: wanted.params.clone(), idempotency_key: None, format: Format::Jsonl, body: &lines[..] };
    let checked = submit::validate_by(&Intake::from(engine), who, submission).await?;
    drop(place);
    let mut zipped = Vec::new();
    GzipEncoder::new(&lines[..]).read_to_end(&mut zipped).await.map_err(store::Error::Io)?;
    let webhook = wanted.params.webhook.as_deref();
    let webhook = webhook.and_then(|url| webhook::url::seal(engine.pepper.expose_secret(), url));
    let kept = JobParams { webhook, ..wanted.params.clone() };
    let schedule_id = time_id(now);
    let new = NewSchedule {
        schedule_id,
        team_id: who.team_id,
        key_id: who.key_id,
        name: &wanted.name,
        cron: &wanted.cron,
        time_zone: &wanted.time_zone,
        skip_if_running: wanted.skip_if_running,
        // Plain data always serializes.
        params: serde_json::to_value(&kept).unwrap_or_default(),
        lines: &zipped,
        requests: checked.requests,
        next_at,
    };
    let mut tx = engine.pools.api.begin().await?;
    let made = schedule::insert(&mut tx, &new, MOST).await?;
    let row = schedule::get(&mut tx, Scope::All, schedule_id).await?.filter(|_| made);
    let row = row.ok_or_else(|| ScheduleError::Taken(wanted.name))?;
    audit::record_change(&mut tx, line(&row, Action::Create, who.key_id)).await?;
    tx.commit().await?;
    Ok(shown(row))
}

pub async fn list(engine: &Engine, scope: Scope) -> Result<Vec<Schedule>, ScheduleError> {
    let rows = schedule::list(&mut *engine.pools.api.acquire().await?, scope).await?;
    Ok(rows.into_iter().map(shown).collect())
}

/// It fires no more; its jobs stay. `by` is the key that asks.
pub async fn delete(engine: &Engine, scope: Scope, id: ScheduleId, by: &str) -> Result<(), ScheduleError> {
    let mut tx = engine.pools.api.begin().await?;
    let row = schedule::get(&mut tx, scope, id.0).await?.ok_or(ScheduleError::NotFound)?;
    if !schedule::delete(&mut tx, scope, id.0).await? {
        return Err(ScheduleError::NotFound);
    }
    audit::record_change(&mut tx, line(&row, Action::Delete, by)).await?;
    Ok(tx.commit().await?)
}

fn line<'a>(row: &ScheduleRow, action: Action, by: &'a str) -> Change<'a> {
    let ScheduleRow { team, name, cron, time_zone, requests, .. } = row;
    let details = json!({ "team": team, "name": name, "cron": cron, "time_zone": time_zone, "requests": requests });
    Change { object: Object::Schedule(ScheduleId(row.schedule_id)), key_id: Some(by), action, details }
}

fn shown(row: ScheduleRow) -> Schedule {
    Schedule {
        id: ScheduleId(row.schedule_id),
        name: row.name,
        team: row.team,
        key_id: row.key_id,
        cron: row.cron,
        time_zone: row.time_zone,
        skip_if_running: row.skip_if_running,
        requests: row.requests,
        next_at: row.next_at,
        last_tick_at: row.last_tick_at,
        last_job: row.last_job.map(JobId),
        last_error: row.last_error,
        created_at: row.created_at,
    }
}
