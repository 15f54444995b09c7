//! Submit: an upload becomes a job. Lines are checked as they arrive and written in chunks; after the last one, one
//! transaction makes the job runnable. Until then nothing of it can run, and a failed upload leaves nothing behind.
//! Memory is flat except for some 30 bytes a request, which are needed to find duplicates.

mod approval;
mod body;
mod checker;
mod cooperate;
mod dependency;
mod dry_run;
mod error;
mod idempotency;
mod ids;
mod intake;
mod max_cost;
mod params;
mod rate;
mod ratio;
mod retry;
mod retry_copy;
mod source;
mod splitter;
mod timed;
mod upload;
mod upload_permits;
mod writer;

#[cfg(test)]
mod speed;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use admission::{
    budgets::{self, Asker},
    fit::Bounds,
};
use chrono::{DateTime, Utc};
use domain::{JobId, job::JobParams, line::LONGEST_LINE};
use notify::webhook;
use store::{
    idempotency::Known,
    ingest::{self, NewItem, NewJob},
};
use tokio::io::AsyncRead;

use self::{
    approval::Load,
    body::Body,
    checker::Checker,
    cooperate::Turn,
    dry_run::Tally,
    idempotency::Fingerprint,
    source::Source,
    upload::{Spending, Upload},
};
pub use self::{
    body::Format,
    dry_run::{DryRun, RouteSum},
    error::{LineError, MOST_ROUTES, RetryError, Share, SubmitError, UploadPosition},
    intake::{Accepted, Intake, Submission, Submitter},
    rate::Slow,
    retry::retry,
    upload_permits::{UploadPermit, UploadPermits},
};
pub(crate) use self::{
    checker::{Flow, Request},
    params::Plan,
};
use crate::{Engine, Settings};

/// Takes the upload and queues its requests. Dropped before its end, it leaves nothing runnable either.
pub async fn submit<R: AsyncRead + Unpin + Send>(
    engine: &Engine,
    who: Submitter<'_>,
    submission: Submission<R>,
) -> Result<Accepted, SubmitError> {
    let place = engine.upload_permits.take(who).await?;
    submit_to(Intake::from(engine), who, submission.watched_by(&place)).await.map_err(|error| place.explain(error))
}

/// The same checks, and nothing is written.
pub async fn validate<R: AsyncRead + Unpin + Send>(
    engine: &Engine,
    who: Submitter<'_>,
    submission: Submission<R>,
) -> Result<DryRun, SubmitError> {
    let place = engine.upload_permits.take(who).await?;
    let checked = validate_by(&Intake::from(engine), who, submission.watched_by(&place)).await;
    checked.map_err(|error| place.explain(error))
}

pub async fn submit_to<R: AsyncRead + Unpin + Send>(
    intake: Intake<'_>,
    who: Submitter<'_>,
    submission: Submission<R>,
) -> Result<Accepted, SubmitError> {
    let key = submission.idempotency_key.as_deref();
    idempotency::check_key(key)?;
    let print = Fingerprint::new(&submission.params);
    let source = Source::open(submission.body, size_limit(submission.format, intake.settings)).await?;
    let mut body = Body::new(source, submission.format, intake.settings.max_body);
    if let Some(known) = idempotency::known(&intake, who, key).await? {
        return idempotency::answer(&intake, known, print, body.source()).await;
    }
    let params = body.params().await?.overridden_by(submission.params);
    let started = intake.clock.now();
    let plan = params::plan(params, &who, &intake.catalog, intake.settings, started)?;
    dependency::check(&intake, who.team_id, plan.after).await?;
    let asker = Asker { team_id: who.team_id, key_id: who.key_id, tags: &plan.tags };
    if let Some(refusal) = budgets::used_up(intake.budgets, intake.pool, asker, started).await? {
        return Err(SubmitError::OverBudget(Box::new(refusal)));
    }
    let job_id = JobId::new(started);
    let webhook = plan.webhook.as_deref().map(|url| kept_url(intake.pepper, url)).transpose()?;
    let upload = ingest::Upload { job_id: job_id.0, worker_id: intake.worker_id };
    let job = NewJob { webhook_url: webhook.as_deref(), ..new_job(&plan, &who, upload) };
    let Some(mut upload) = Upload::begin(intake.pool, &job, key, intake.catalog.quota()).await? else {
        let rival = idempotency::known(&intake, who, key).await?.unwrap_or(Known::InFlight);
        return idempotency::answer(&intake, rival, print, body.source()).await;
    };
    let team = team_under_budgets(&intake, who.team_id).await?;
    let bounds = bounds(&intake, who, &team, &plan, started);
    let mut checker = Checker::new(&intake.catalog, started, intake.settings.max_lines).within(bounds);
    if let Err(error) = take_all(&mut body, &mut checker, &mut upload).await {
        return Err(upload.fail(error).await);
    }
    let flows: Vec<_> = checker.flows().iter().map(checker::Flow::to_store).collect();
    if let Some(most) = plan.max_cost
        && let Err(error) = max_cost::check(most, checker.flows(), started)
    {
        return Err(upload.fail(error).await);
    }
    let loads: Vec<Load<'_>> = checker.flows().iter().map(Load::of_flow).collect();
    let approval = match approval::wanted(intake.pool, &intake.catalog, who.team_id, &loads, intake.clock.now()).await {
        Ok(approval) => approval,
        Err(error) => return Err(upload.fail(error.into()).await),
    };
    let spending = Spending { approval, max_cost: plan.max_cost };
    let accepted = upload.finish(&flows, &print.of(body.source()), spending).await?;
    Ok(Accepted { job_id, accepted, replayed: false })
}

pub async fn validate_by<R: AsyncRead + Unpin + Send>(
    intake: &Intake<'_>,
    who: Submitter<'_>,
    submission: Submission<R>,
) -> Result<DryRun, SubmitError> {
    let now = intake.clock.now();
    let mut tallies: Vec<Tally> = Vec::new();
    let add = |flow: &Flow<'_>, request: &Request<'_>| {
        if request.flow == tallies.len() {
            tallies.push(Tally::new(flow, now));
        }
        tallies[request.flow].add(request);
    };
    let (plan, bytes) = survey(intake, who, submission, add).await?;
    Ok(dry_run::add_up(plan.lane, bytes, tallies))
}

/// Checks every request of an upload as a submission would, and writes nothing. Returns the job's parameters, and the
/// bytes of the decompressed upload.
pub(crate) async fn survey<R: AsyncRead + Unpin + Send>(
    intake: &Intake<'_>,
    who: Submitter<'_>,
    submission: Submission<R>,
    mut each: impl FnMut(&Flow<'_>, &Request<'_>),
) -> Result<(Plan, u64), SubmitError> {
    let source = Source::open(submission.body, size_limit(submission.format, intake.settings)).await?;
    let mut body = Body::new(source, submission.format, intake.settings.max_body);
    let params = body.params().await?.overridden_by(submission.params);
    let now = intake.clock.now();
    let plan = params::plan(params, &who, &intake.catalog, intake.settings, now)?;
    let team = team_under_budgets(intake, who.team_id).await?;
    let bounds = bounds(intake, who, &team, &plan, now);
    let mut checker = Checker::new(&intake.catalog, now, intake.settings.max_lines).within(bounds);
    let mut turn = Turn::new();
    loop {
        turn.take().await;
        while let Some(line) = body.pop()? {
            let request = checker.check(line.text).map_err(|reason| SubmitError::Line { place: line.place, reason })?;
            each(&checker.flows()[request.flow], &request);
        }
        turn.give_back();
        if !body.fill().await? {
            break;
        }
    }
    if checker.requests() == 0 {
        return Err(SubmitError::Empty);
    }
    Ok((plan, body.source().bytes()))
}

/// An upload of JSONL, unzipped, and what it says of its job; nothing is checked but its size and that.
pub async fn read_whole<R: AsyncRead + Unpin + Send>(body: R, most: u64) -> Result<(Vec<u8>, JobParams), SubmitError> {
    let lines = Source::open(body, most).await?.read_whole().await?;
    let said = Body::new(Source::open(&lines[..], most).await?, Format::Jsonl, LONGEST_LINE).params().await?;
    Ok((lines, said))
}

/// Reads, checks and writes until the upload ends.
async fn take_all<R: AsyncRead + Unpin + Send>(
    body: &mut Body<R>,
    checker: &mut Checker<'_>,
    upload: &mut Upload,
) -> Result<(), SubmitError> {
    let mut turn = Turn::new();
    loop {
        turn.take().await;
        while let Some(line) = body.pop()? {
            let request = checker.check(line.text).map_err(|reason| SubmitError::Line { place: line.place, reason })?;
            if !upload.writer.has_room(request.body.len()) {
                upload.writer.flush(checker.flow_ids()).await?;
            }
            let full = upload.writer.push(NewItem {
                flow_id: checker.flows()[request.flow].id,
                pos: request.pos,
                line: request.line,
                est_in: request.est_in,
                max_out: request.max_out,
                custom_id: &request.custom_id,
                body: request.body,
            });
            if full {
                turn.give_back();
                upload.writer.flush(checker.flow_ids()).await?;
                turn.take().await;
            }
        }
        turn.give_back();
        if !body.fill().await? {
            break;
        }
    }
    if checker.requests() == 0 {
        return Err(SubmitError::Empty);
    }
    upload.writer.flush(checker.flow_ids()).await
}

/// The team's name; empty, without a look, when there are no budgets that could know it.
async fn team_under_budgets(intake: &Intake<'_>, team_id: i64) -> Result<String, SubmitError> {
    if intake.budgets.index().is_empty() {
        return Ok(String::new());
    }
    let mut conn = intake.pool.acquire().await?;
    Ok(store::team::get(&mut conn, team_id).await?.map(|team| team.name).unwrap_or_default())
}

/// What each request of the job has to fit into.
fn bounds<'e>(
    intake: &Intake<'e>,
    who: Submitter<'e>,
    team: &'e str,
    plan: &'e Plan,
    now: DateTime<Utc>,
) -> Bounds<'e> {
    let (limits, budgets) = (intake.limits, intake.budgets);
    Bounds { limits, budgets, team_id: who.team_id, team, key_id: who.key_id, lane: &plan.lane, tags: &plan.tags, now }
}

fn new_job<'a>(plan: &'a Plan, who: &Submitter<'a>, upload: ingest::Upload) -> NewJob<'a> {
    NewJob {
        upload,
        team_id: who.team_id,
        key_id: who.key_id,
        lane: plan.lane.as_str(),
        name: plan.name.as_deref(),
        tags: plan
            .tags
            .iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        priority: plan.priority,
        max_attempts: plan.max_attempts,
        retry_of: None,
        after: plan.after,
        webhook_url: None,
        start_at: plan.start_at,
        deadline_at: plan.deadline,
    }
}

/// As the database keeps it.
fn kept_url(pepper: &[u8], url: &str) -> Result<String, SubmitError> {
    webhook::url::seal(pepper, url).ok_or_else(|| SubmitError::param("webhook", "it could not be sealed".to_owned()))
}

/// A JSON body is held in memory; JSONL is not.
fn size_limit(format: Format, settings: &Settings) -> u64 {
    match format {
        Format::Jsonl => settings.max_upload,
        Format::Json => settings.max_body as u64,
    }
}
