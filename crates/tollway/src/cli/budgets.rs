//! `tollway budgets …`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::{
    Budget,
    budget::{Guard, GuardBy, Length, Policy, Scope, Unit, Window},
    money::Total,
};
use reqwest::Method;
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
    /// Show how the budgets stand; also without a subcommand
    List,
    /// Declare a budget, or change it
    Set(Box<Set>),
    /// Remove a budget
    Remove { name: String },
    /// Add up the ledger and compare it with what was counted
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
    /// Let calls go on at the limit
    #[arg(long)]
    soft: bool,
    /// Percent at which it says so
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "50,80,100")]
    thresholds: Vec<u32>,
    /// Percent of the limit that one job may spend within --guard-per
    #[arg(long, value_name = "PERCENT")]
    guard: Option<u32>,
    /// How long its guard looks back, such as 30m or 1h
    #[arg(long, value_name = "LENGTH", default_value = "1h", requires = "guard")]
    guard_per: Length,
    /// Whose spend its guard looks at: job, feature or team
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
}

#[derive(Debug, Serialize, Deserialize)]
struct Verified {
    ledger: String,
    counted: String,
    equal: bool,
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
                false => line(format!(
                    "Of {}, {} is left; all replicas follow within a second.",
                    limit(&budget),
                    budget.left
                ))?,
            }
        }
        Command::Remove { name } => {
            client.send(client.request(Method::DELETE, &format!("api/v1/budgets/{name}"))).await?;
            if is_json { output::json(&json!({ "removed": name }))? } else { line(format!("{name} is removed."))? }
        }
        Command::Verify => return verify(&client, is_json).await,
    }
    Ok(Exit::Done)
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
            vec![budget.name.clone(), ledger, counted, found.to_owned()]
        });
        let columns = [("budget", Align::Left), ("ledger", Align::Right), ("counted", Align::Right), ("", Align::Left)];
        output::table(&columns, rows.collect(), "There are no budgets.")?;
    }
    Ok(if all_equal { Exit::Done } else { Exit::Failed })
}
