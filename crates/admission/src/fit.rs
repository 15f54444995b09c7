//! How large a call can get, and whether it can ever start: a call that asks for more than a whole limit or a whole budget would
//! wait for ever, so it is refused with the figures.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Endpoint, Lane, Tags,
    budget::{Facts, Unit},
};
use pricing::PricedModel;
use wire::{Call, ImageRule, UNKNOWN_MAX_OUTPUT};

use crate::{
    budgets::Budgets,
    catalog::{ActiveDeployment, ActiveRoute},
    limits::{LimitRule, Limiter, most_of},
    worst_case,
};

/// What the models of a route make of a call, whichever of them serves it.
#[derive(Debug, Clone, Copy)]
pub struct SizeRule {
    /// The most tokens that one choice can have.
    output: i64,
    images: ImageRule,
}

impl SizeRule {
    pub fn of(route: &ActiveRoute, endpoint: Endpoint) -> Self {
        let rule = |deployment: &Arc<ActiveDeployment>| Self {
            output: deployment.price.as_ref().and_then(PricedModel::context).unwrap_or(UNKNOWN_MAX_OUTPUT),
            images: ImageRule::of(&deployment.spec.model),
        };
        let larger = |a: Self, b: Self| Self { output: a.output.max(b.output), images: a.images.or(b.images) };
        let known = route.candidates(endpoint).map(rule).reduce(larger);
        known.unwrap_or(Self { output: UNKNOWN_MAX_OUTPUT, images: ImageRule::OTHERS })
    }

    /// Estimated input tokens, and the most output tokens of all choices together; `None`: of one choice, without a maximum.
    pub fn size(self, call: &Call<'_>) -> (i64, Option<i64>) {
        (call.input.tokens(self.images), call.output.in_all(self.output))
    }

    /// The same as the queue stores it. Input that has no room there counts as the largest number that has.
    pub fn columns(self, call: &Call<'_>) -> (i32, Option<i32>) {
        let (est_in, max_out) = self.size(call);
        let column = |tokens| i32::try_from(tokens).unwrap_or(i32::MAX);
        (column(est_in), max_out.map(column))
    }
}

/// Tokens by which a call counts in limits of tokens a minute.
pub fn rate_tokens(est_in: i64, max_out: Option<i64>) -> i64 {
    est_in.saturating_add(max_out.unwrap_or(0)).max(1)
}

/// The call asks for more than there can ever be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it can never fit: asks {asks}, limit {most} ({of}); ask for less, as by a smaller max_tokens, or have it raised"
)]
pub struct NeverFits {
    pub asks: String,
    pub most: String,
    /// The limit or the budget.
    pub of: String,
}

impl NeverFits {
    fn rate(tokens: i64, most: i64, rule: &LimitRule, team: &str) -> Self {
        let refused = rule.refuses(tokens);
        let of = refused.obstacle(team).detail;
        let of = of.strip_prefix("limit ").unwrap_or(&of).to_owned();
        Self { asks: format!("{tokens} tokens"), most: format!("{most} tokens a minute"), of }
    }
}

/// A limit in tokens that has no more than this in a minute.
type Most = (i64, Arc<LimitRule>);

/// The most that one call can take of limits in tokens: the tightest of its caller's, and of the deployments the one that takes most.
fn most_of_rates(
    limits: &Limiter,
    caller: &[Arc<LimitRule>],
    route: &ActiveRoute,
    endpoint: Endpoint,
    lane: &Lane,
) -> Option<Most> {
    let each: Option<Vec<Most>> =
        route.candidates(endpoint).map(|deployment| limits.most_of_deployment(&deployment.name, lane)).collect();
    let deployment = each.and_then(|each| each.into_iter().max_by_key(|(tokens, _)| *tokens));
    most_of(caller).into_iter().chain(deployment).min_by_key(|(tokens, _)| *tokens)
}

/// What one caller's calls have to fit into.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'e> {
    pub limits: &'e Limiter,
    pub budgets: &'e Budgets,
    pub team_id: i64,
    /// Empty: no budget is declared.
    pub team: &'e str,
    pub key_id: &'e str,
    pub lane: &'e Lane,
    pub tags: &'e Tags,
    pub now: DateTime<Utc>,
}

/// The largest that one call through a route can be.
#[derive(Debug)]
pub struct Ceilings {
    rate: Option<Most>,
    /// Hard budgets of each deployment; empty when one of them has none.
    budgets: Vec<Budgeted>,
    endpoint: Endpoint,
    team: Arc<str>,
    now: DateTime<Utc>,
}

#[derive(Debug)]
struct Budgeted {
    deployment: Arc<ActiveDeployment>,
    caps: Vec<(Unit, i128, Arc<str>)>,
}

impl Bounds<'_> {
    pub fn of(&self, route: &ActiveRoute, endpoint: Endpoint) -> Ceilings {
        let caller = self.limits.caller_rules(self.team_id, self.lane, self.key_id);
        let rate = most_of_rates(self.limits, &caller, route, endpoint, self.lane);
        let budgets: Vec<Budgeted> = route.candidates(endpoint).map(|deployment| self.budgeted(deployment)).collect();
        let is_free = budgets.iter().any(|one| one.caps.is_empty());
        let budgets = if is_free { Vec::new() } else { budgets };
        Ceilings { rate, budgets, endpoint, team: self.team.into(), now: self.now }
    }

    fn budgeted(&self, deployment: &Arc<ActiveDeployment>) -> Budgeted {
        let facts = Facts {
            team: self.team,
            key: Some(self.key_id),
            job: None,
            deployment: &deployment.name,
            provider: deployment.spec.provider_name(),
            tags: self.tags,
        };
        Budgeted { deployment: Arc::clone(deployment), caps: self.budgets.hard_caps(&facts) }
    }
}

impl Ceilings {
    /// Refuses a call of this size if it is larger.
    pub fn check(&self, est_in: i64, max_out: Option<i64>) -> Result<(), NeverFits> {
        let tokens = rate_tokens(est_in, max_out);
        if let Some((most, rule)) = self.rate.as_ref().filter(|(most, _)| tokens > *most) {
            return Err(NeverFits::rate(tokens, *most, rule, &self.team));
        }
        let mut first = None;
        for one in &self.budgets {
            match self.over(one, est_in, max_out) {
                None => return Ok(()),
                over => first = first.or(over),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// As many of these tokens as a limit can give at once.
    pub fn shrink(&self, tokens: i64) -> i64 {
        self.rate.as_ref().map_or(tokens, |(most, _)| tokens.min(*most))
    }

    /// The first of the deployment's budgets that is smaller than the call.
    fn over(&self, one: &Budgeted, est_in: i64, max_out: Option<i64>) -> Option<NeverFits> {
        one.caps.iter().find_map(|(unit, cap, name)| {
            let asks: i128 = match unit {
                Unit::Usd => worst_case::cost(&one.deployment, est_in, max_out, self.now)?.pico().into(),
                Unit::Tokens => worst_case::tokens(&one.deployment, self.endpoint, est_in, max_out).into(),
            };
            let over = || NeverFits { asks: unit.said(asks), most: unit.said(*cap), of: format!("budget {name}") };
            (asks > *cap).then(over)
        })
    }
}

/// The check of limits in tokens alone, of one synchronous call: what a budget lacks is said where it is reserved.
pub fn check_rates(
    limits: &Limiter,
    caller: &[Arc<LimitRule>],
    route: &ActiveRoute,
    endpoint: Endpoint,
    lane: &Lane,
    (tokens, team): (i64, &str),
) -> Result<(), NeverFits> {
    match most_of_rates(limits, caller, route, endpoint, lane) {
        Some((most, rule)) if tokens > most => Err(NeverFits::rate(tokens, most, &rule, team)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
