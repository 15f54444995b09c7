//! `tollway budgets …`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::{
    Budget,
    budget::{Guard, GuardBy, Length, Policy, Scope, Unit, Window},
    money::Total,
};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, line, optional, time},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Budgets {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List budgets with their standing; the default subcommand
    List,
    /// Create or change a budget
    Set(Box<Set>),
    /// Remove a budget
    Remove { name: String },
    /// Show since when all replicas enforce a budget
    Status { name: String },
    /// Compare the ledger's sums with the counted spend
    Verify,
}

#[derive(Debug, Args)]
struct Set {
    name: String,
    /// The limit in USD, such as 24000 or 0.50
    #[arg(long, value_name = "AMOUNT", required_unless_present = "tokens", conflicts_with = "tokens")]
    usd: Option<Total>,
    /// The limit in tokens, input and output
    #[arg(long, value_name = "N")]
    tokens: Option<i64>,
    /// hour, day, week, month, total, or such as "rolling 24h"
    #[arg(long, value_name = "WINDOW", default_value = "month")]
    window: Window,
    /// Where its days and months begin, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// team, feature, customer, environment, job, deployment, a tag, …
    #[arg(long = "of", value_name = "KEY=VALUE")]
    of: Vec<String>,
    /// reject, hold, downgrade or alert
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<Policy>,
    /// Let calls through when the limit is reached
    #[arg(long)]
    soft: bool,
    /// Percents of the limit at which alerts are raised
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "50,80,100")]
    thresholds: Vec<u32>,
    /// Percent of the limit that one job may spend within --guard-per
    #[arg(long, value_name = "PERCENT")]
    guard: Option<u32>,
    /// Window of the guard, such as 30m or 1h
    #[arg(long, value_name = "LENGTH", default_value = "1h", requires = "guard")]
    guard_per: Length,
    /// What the guard limits: each job, feature or team
    #[arg(long, value_name = "WHOSE", value_parser = guard_by, default_value = "job", requires = "guard")]
    guard_by: GuardBy,
}

fn guard_by(word: &str) -> Result<GuardBy, String> {
    GuardBy::from_word(word).ok_or_else(|| "it is job, feature or team".to_owned())
}

fn policy(word: &str) -> Result<Policy, String> {
    Policy::from_word(word).ok_or_else(|| "it is reject, hold, downgrade or alert".to_owned())
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    name: String,
    #[serde(default)]
    scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit_usd: Option<Total>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit_tokens: Option<i64>,
    window: Window,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    policy: Policy,
    #[serde(default)]
    soft: bool,
    thresholds: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guard: Option<Guard>,
    managed_by: String,
    unit: Unit,
    spent: String,
    reserved: String,
    unproven: String,
    left: String,
    used_percent: f64,
    burn_per_hour: String,
    exhausted_at: Option<DateTime<Utc>>,
    window_start: DateTime<Utc>,
    resets_at: Option<DateTime<Utc>>,
    counted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_force: Option<InForce>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Verified {
    ledger: String,
    counted: String,
    equal: bool,
    #[serde(default)]
    over: Option<Over>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Over {
    by: String,
    count: i64,
    calls: Vec<OverCall>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OverCall {
    request_id: String,
    attempt_id: String,
    team: String,
    deployment: String,
    recorded_at: DateTime<Utc>,
    charged: String,
    held: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct InForce {
    everywhere: bool,
    since: Option<DateTime<Utc>>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Replica {
    worker_id: String,
    host: String,
    holds: bool,
    since: Option<DateTime<Utc>>,
}

pub async fn run(args: Budgets, common: &Common) -> Outcome {
    let client = Client::find()?;
    let is_json = common.output == Format::Json;
    match args.command.unwrap_or(Command::List) {
        Command::List => {
            let page: Page<Shown> = client.get("api/v1/budgets", &()).await?;
            if is_json { output::json(&page.data)? } else { show(page.data)? }
        }
        Command::Set(set) => {
            let path = format!("api/v1/budgets/{}", set.name);
            let budget: Shown = client.read(client.request(Method::PUT, &path).json(&declared(*set)?)).await?;
            match is_json {
                true => output::json(&budget)?,
                false => {
                    let held = held_by(budget.in_force.as_ref());
                    line(format!("Of {}, {} is left. {held}", limit(&budget), budget.left))?;
                }
            }
        }
        Command::Remove { name } => {
            let answer = client.send(client.request(Method::DELETE, &format!("api/v1/budgets/{name}"))).await?;
            let rest = match answer.status() {
                StatusCode::ACCEPTED => answer.json::<InForce>().await.ok(),
                _ => None,
            };
            match (is_json, rest) {
                (true, rest) => output::json(&json!({ "removed": name, "in_force": rest }))?,
                (false, None) => line(format!("{name} is removed; no replica holds it any more."))?,
                (false, rest) => line(format!("{name} is removed. {}", held_by(rest.as_ref())))?,
            }
        }
        Command::Status { name } => {
            let budget: Shown = client.get(&format!("api/v1/budgets/{name}"), &()).await?;
            match (is_json, &budget.in_force) {
                (true, in_force) => output::json(in_force)?,
                (false, in_force) => line(held_by(in_force.as_ref()))?,
            }
        }
        Command::Verify => return verify(&client, is_json).await,
    }
    Ok(Exit::Done)
}

/// Since when all replicas hold a change, or which do not yet.
fn held_by(in_force: Option<&InForce>) -> String {
    let Some(found) = in_force else { return "All replicas follow within a second.".to_owned() };
    let late: Vec<String> = found
        .replicas
        .iter()
        .filter(|replica| !replica.holds)
        .map(|replica| format!("{} on {}", replica.worker_id, replica.host))
        .collect();
    match (found.everywhere, found.since) {
        (true, Some(since)) => format!("All {} replicas hold it, since {}.", found.replicas.len(), time(since)),
        (true, None) => "All replicas hold it.".to_owned(),
        (false, _) if late.is_empty() => {
            "What was spent before is still being counted; until then nothing fits.".to_owned()
        }
        (false, _) => format!(
            "Not confirmed by {}: until it follows, or its lease ends, its calls are not held by this change, and nothing is granted \
             of a new budget. `tollway budgets status NAME` says when.",
            late.join(", "),
        ),
    }
}

fn declared(set: Set) -> Result<Budget, Failure> {
    let Set { usd, tokens, window, time_zone, of, policy, soft, thresholds, guard, guard_per, guard_by, .. } = set;
    let zone = time_zone.parse().map_err(|_| {
        Failure::usage(format_args!("{time_zone:?} is not a time zone of the IANA list, such as Europe/Berlin"))
    })?;
    let scope = scope(&of)?;
    let guard = guard.map(|percent| Guard { percent, per: guard_per, by: guard_by });
    Ok(Budget { scope, limit_usd: usd, limit_tokens: tokens, window, time_zone: zone, policy, soft, thresholds, guard })
}

fn scope(of: &[String]) -> Result<Scope, Failure> {
    let mut scope = Scope::default();
    for pair in of {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format_args!("--of is written as key=value; {pair:?} is not")))?;
        let value = value.to_owned();
        match key {
            "team" => scope.team = Some(value),
            "environment" => scope.environment = Some(value),
            "feature" => scope.feature = Some(value),
            "customer" => scope.customer = Some(value),
            "key" => scope.key = Some(value),
            "job" => scope.job = Some(value.parse().map_err(Failure::usage)?),
            "deployment" => scope.deployment = Some(value),
            "provider" => scope.provider = Some(value),
            tag => drop(scope.tags.insert(tag.to_owned(), value)),
        }
    }
    Ok(scope)
}

fn limit(budget: &Shown) -> String {
    match (budget.limit_usd, budget.limit_tokens) {
        (Some(usd), _) => format!("${usd}"),
        (None, tokens) => format!("{} tokens", tokens.unwrap_or(0)),
    }
}

fn show(budgets: Vec<Shown>) -> std::io::Result<()> {
    let rows = budgets.into_iter().map(|budget| {
        let limit = limit(&budget);
        vec![
            budget.name,
            budget.scope.to_string(),
            limit,
            budget.window.to_string(),
            budget.policy.as_str().to_owned(),
            optional(budget.guard),
            budget.spent,
            budget.reserved,
            budget.unproven,
            if budget.counted { budget.left } else { "counting".to_owned() },
            format!("{:.1} %", budget.used_percent),
            budget.burn_per_hour,
            optional(budget.exhausted_at.map(time)),
            optional(budget.resets_at.map(time)),
            budget.managed_by,
        ]
    });
    let columns = [
        ("budget", Align::Left),
        ("of", Align::Left),
        ("limit", Align::Right),
        ("window", Align::Left),
        ("policy", Align::Left),
        ("guard", Align::Left),
        ("spent", Align::Right),
        ("reserved", Align::Right),
        ("unproven", Align::Right),
        ("left", Align::Right),
        ("used", Align::Right),
        ("an hour", Align::Right),
        ("used up", Align::Left),
        ("resets", Align::Left),
        ("managed by", Align::Left),
    ];
    output::table(&columns, rows.collect(), "There are no budgets.")
}

async fn verify(client: &Client, is_json: bool) -> Outcome {
    let page: Page<Shown> = client.get("api/v1/budgets", &[("verify", "true")]).await?;
    let is_equal = |budget: &Shown| budget.verified.as_ref().is_some_and(|sums| sums.equal || !budget.counted);
    let all_equal = page.data.iter().all(is_equal);
    if is_json {
        output::json(&page.data)?;
    } else {
        let rows = page.data.iter().map(|budget| {
            let (ledger, counted) = match &budget.verified {
                Some(sums) => (sums.ledger.clone(), sums.counted.clone()),
                None => Default::default(),
            };
            let found = if is_equal(budget) { "equal" } else { "DIFFERENT" };
            let over = budget.verified.as_ref().and_then(|sums| sums.over.as_ref());
            let over = over.map_or_else(String::new, |over| format!("OVER its limit by {}", said(budget, &over.by)));
            vec![budget.name.clone(), limit(budget), ledger, counted, found.to_owned(), over]
        });
        let columns = [
            ("budget", Align::Left),
            ("limit", Align::Right),
            ("ledger", Align::Right),
            ("counted", Align::Right),
            ("", Align::Left),
            ("", Align::Left),
        ];
        output::table(&columns, rows.collect(), "There are no budgets.")?;
        page.data.iter().try_for_each(show_over)?;
    }
    Ok(if all_equal { Exit::Done } else { Exit::Failed })
}

/// The calls that took it over its limit.
fn show_over(budget: &Shown) -> std::io::Result<()> {
    let Some(over) = budget.verified.as_ref().and_then(|sums| sums.over.as_ref()) else { return Ok(()) };
    line(format!("\nBudget {} is over its limit by {}, by these calls:", budget.name, said(budget, &over.by)))?;
    let rows = over.calls.iter().map(|call| {
        let held = call.held.as_deref().map_or_else(|| "–".to_owned(), |held| said(budget, held));
        vec![
            call.request_id.clone(),
            call.attempt_id.clone(),
            call.team.clone(),
            call.deployment.clone(),
            time(call.recorded_at),
            held,
            said(budget, &call.charged),
        ]
    });
    let columns = [
        ("request", Align::Left),
        ("attempt", Align::Left),
        ("team", Align::Left),
        ("deployment", Align::Left),
        ("booked", Align::Left),
        ("held", Align::Right),
        ("charged", Align::Right),
    ];
    output::table(&columns, rows.collect(), "")?;
    let named = i64::try_from(over.calls.len()).unwrap_or(i64::MAX);
    if over.count > named {
        line(format!("And {} smaller ones.", over.count - named))?;
    }
    Ok(())
}

/// An amount with the budget's unit.
fn said(budget: &Shown, amount: &str) -> String {
    match budget.unit {
        Unit::Usd => format!("${amount}"),
        Unit::Tokens => format!("{amount} tokens"),
    }
}
