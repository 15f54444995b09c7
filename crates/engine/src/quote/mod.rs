//! Quote: what a job would cost and how long it would take, before any money is spent. The upload goes through the checks of a
//! submission, line by line, and nothing is written.

mod answer;
mod budgets;
mod route;
mod sums;
mod throughput_estimate;

use std::collections::BTreeSet;

use admission::catalog::ActiveCatalog;
use chrono::{DateTime, Utc};
use domain::{Lane, money::Total};
use store::{job::Scope, lane::LaneView, recent::RecentCalls};
use tokio::io::AsyncRead;

pub use self::{
    answer::{DurationRange, LaneQuote, Quote},
    budgets::{BudgetQuote, Fits},
    route::{DeploymentQuote, RouteQuote},
};
use self::{budgets::By, sums::Sums, throughput_estimate::ThroughputEstimate};
pub use crate::usual::Basis;
use crate::{
    Engine,
    submit::{Intake, Plan, Submission, SubmitError, Submitter, survey},
    usual,
};

/// `team` is the submitter's, by its name.
pub async fn quote<R: AsyncRead + Unpin + Send>(
    engine: &Engine,
    who: Submitter<'_>,
    team: &str,
    submission: Submission<R>,
) -> Result<Quote, SubmitError> {
    let place = engine.upload_permits.take(who).await?;
    let recent = recent_calls(engine, team).await?;
    let intake = Intake::from(engine);
    let now = intake.clock.now();
    let mut sums: Vec<Sums> = Vec::new();
    let surveyed = survey(&intake, who, submission.watched_by(&place), |flow, request| {
        if request.flow == sums.len() {
            sums.push(Sums::new(flow, &recent, now));
        }
        sums[request.flow].add(request);
    });
    let (plan, bytes) = surveyed.await.map_err(|error| place.explain(error))?;
    let queue = Queue::look(engine, who.team_id).await?;
    let duration_in = |lane: &Lane| queue.pace(engine, &intake.catalog, who, lane).duration(&sums);
    let duration = duration_in(&plan.lane);
    let is_open = |lane: &&Lane| intake.catalog.lanes.get(*lane).is_some_and(|rule| !rule.closed);
    let others = who.lanes.iter().filter(|lane| **lane != plan.lane).filter(is_open);
    let lanes = others.map(|lane| LaneQuote { lane: lane.clone(), duration_s: duration_in(lane) }).collect();
    let by = By { team, key: who.key_id, tags: &plan.tags };
    let budgets = budgets::touched(admission::budgets::show(&engine.control).await?, by, &sums);
    let mut quote = assemble(plan, now, bytes, sums, duration, lanes, budgets);
    let above = intake.catalog.approval_above(team);
    quote.warnings.extend(odd_prices(&intake.catalog, &quote.routes));
    quote.warnings.extend(above.and_then(|above| approval(quote.expected_cost_usd, above)));
    Ok(quote)
}

/// Own prices of its deployments that are far from the list's: what it would cost is probably not meant.
fn odd_prices(catalog: &ActiveCatalog, routes: &[RouteQuote]) -> Vec<String> {
    let named: BTreeSet<(&str, &str)> = routes
        .iter()
        .flat_map(|route| &route.deployments)
        .filter_map(|quote| catalog.deployment(&quote.deployment))
        .map(|deployment| (deployment.spec.provider_name(), deployment.spec.model.as_str()))
        .collect();
    let is_used = |odd: &&pricing::OddPrice| named.contains(&(odd.provider.as_str(), odd.model.as_str()));
    catalog.odd_prices.iter().filter(is_used).map(ToString::to_string).collect()
}

/// Whether somebody would have to approve it.
fn approval(expected: Option<Total>, above: Total) -> Option<String> {
    let is_cheap = expected.is_some_and(|cost| cost <= above);
    (!is_cheap).then(|| format!("It will wait for approval, as jobs do that are expected to cost more than ${above}."))
}

fn assemble(
    plan: Plan,
    now: DateTime<Utc>,
    bytes: u64,
    sums: Vec<Sums>,
    duration_s: Option<DurationRange>,
    lanes: Vec<LaneQuote>,
    budgets: Vec<BudgetQuote>,
) -> Quote {
    let mut warnings = answer::warnings(&plan, now, &sums, duration_s);
    warnings.extend(budgets.iter().filter_map(BudgetQuote::warning));
    let routes: Vec<RouteQuote> = sums.into_iter().map(Sums::told).collect();
    let total = |of: fn(&RouteQuote) -> Option<Total>| {
        routes.iter().try_fold(Total(0), |sum, route| Some(Total(sum.0 + of(route)?.0)))
    };
    Quote {
        lane: plan.lane,
        requests: routes.iter().map(|route| route.requests).sum(),
        bytes,
        est_input_tokens: routes.iter().map(|route| route.est_input_tokens).sum(),
        expected_output_tokens: routes.iter().map(|route| route.expected_output_tokens).sum(),
        expected_cost_usd: total(|route| route.expected_cost_usd),
        worst_cost_usd: total(|route| route.worst_cost_usd),
        duration_s,
        routes,
        lanes,
        budgets,
        warnings,
    }
}

async fn recent_calls(engine: &Engine, team: &str) -> store::Result<Vec<RecentCalls>> {
    store::recent::calls(&mut *engine.pools.api.acquire().await?, team, usual::RECENT).await
}

/// What waits and runs at the moment, of all teams and of the submitter's.
struct Queue {
    all: Vec<LaneView>,
    own: Vec<LaneView>,
    /// Requests of jobs that all workers together run at once.
    slots: i64,
}

impl Queue {
    async fn look(engine: &Engine, team_id: i64) -> store::Result<Self> {
        let mut conn = engine.pools.api.acquire().await?;
        let slots = store::worker::slots(&mut conn).await?;
        let all = store::lane::busy(&mut conn, Scope::All).await?;
        let own = store::lane::busy(&mut conn, Scope::Team(team_id)).await?;
        Ok(Self { all, own, slots })
    }

    fn pace<'a>(
        &self,
        engine: &'a Engine,
        catalog: &ActiveCatalog,
        who: Submitter<'_>,
        lane: &Lane,
    ) -> ThroughputEstimate<'a> {
        throughput_estimate::of(&engine.control.limits, catalog, &self.all, &self.own, self.slots, who, lane)
    }
}
