//! `tollway quote FILE`: what it would cost and how long it would take, before it is submitted.

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use domain::money::Total;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    job_params::{self, JobArgs},
    output::{self, Align, count, duration, line, optional},
    submit::upload::{self, Upload},
};

#[derive(Debug, Args)]
pub struct QuoteFile {
    /// One request a line, as for submit; gzip is recognised; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    job: JobArgs,
    /// Compress on the way
    #[arg(long)]
    gzip: bool,
}

/// What is shown of the answer.
#[derive(Deserialize)]
struct Quote {
    lane: String,
    requests: i64,
    est_input_tokens: i64,
    expected_output_tokens: i64,
    expected_cost_usd: Option<Total>,
    worst_cost_usd: Option<Total>,
    duration_s: Option<Range>,
    routes: Vec<Route>,
    lanes: Vec<InLane>,
    budgets: Vec<OfBudget>,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
struct Range {
    low: u64,
    high: u64,
}

#[derive(Deserialize)]
struct Route {
    model: String,
    requests: i64,
    deployments: Vec<ByDeployment>,
}

#[derive(Deserialize)]
struct ByDeployment {
    deployment: String,
    expected_cost_usd: Option<Total>,
    worst_cost_usd: Option<Total>,
    saves_usd: Option<Total>,
}

#[derive(Deserialize)]
struct OfBudget {
    budget: String,
    unit: String,
    left: String,
    expected: String,
    worst: String,
}

#[derive(Deserialize)]
struct InLane {
    lane: String,
    duration_s: Option<Range>,
}

pub async fn run(args: QuoteFile, common: &Common) -> Outcome {
    let query = job_params::query(&args.job, Utc::now())?;
    let client = Client::find()?;
    let upload = Upload { file: &args.file, to: "api/v1/quotes", gzip: args.gzip, idempotency_key: None };
    let answer: Value = upload::send(&client, upload, &query).await?;
    if common.output == Format::Json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let quote: Quote = serde_json::from_value(answer)
        .map_err(|error| Failure::new(Exit::Failed, format_args!("the gateway's answer cannot be read: {error}")))?;
    show(quote)?;
    Ok(Exit::Done)
}

fn show(quote: Quote) -> std::io::Result<()> {
    let tokens = (count(quote.est_input_tokens), count(quote.expected_output_tokens));
    line(format!(
        "{} requests in lane {}: about {} tokens in, {} out",
        count(quote.requests),
        quote.lane,
        tokens.0,
        tokens.1
    ))?;
    line(format!("Cost      {} expected, {} at most", usd(quote.expected_cost_usd), usd(quote.worst_cost_usd)))?;
    line(format!("Duration  {}", span(quote.duration_s)))?;
    for other in &quote.lanes {
        line(format!("          {} in lane {}", span(other.duration_s), other.lane))?;
    }
    for one in &quote.budgets {
        let OfBudget { budget, unit, left, expected, worst } = one;
        line(format!("Budget    {budget}: {expected} to {worst} of the {left} {unit} that are left"))?;
    }
    line("")?;
    let rows = quote.routes.iter().flat_map(|route| {
        route.deployments.iter().map(|one| {
            vec![
                route.model.clone(),
                count(route.requests),
                one.deployment.clone(),
                usd(one.expected_cost_usd),
                usd(one.worst_cost_usd),
                optional(one.saves_usd.map(|saves| format!("${saves}"))),
            ]
        })
    });
    let columns = [
        ("model", Align::Left),
        ("requests", Align::Right),
        ("by", Align::Left),
        ("expected", Align::Right),
        ("at most", Align::Right),
        ("saves", Align::Right),
    ];
    output::table(&columns, rows.collect(), "")?;
    quote.warnings.iter().try_for_each(|warning| line(format!("! {warning}")))
}

fn usd(amount: Option<Total>) -> String {
    amount.map_or_else(|| "unknown".to_owned(), |amount| format!("${amount}"))
}

/// Seconds as people say them; one figure where both are the same.
fn span(range: Option<Range>) -> String {
    let told = |seconds: u64| duration(seconds as f64);
    match range {
        None => "unknown".to_owned(),
        Some(Range { low, high }) if told(low) == told(high) => told(low),
        Some(Range { low, high }) => format!("{} to {}", told(low), told(high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_none_is_one_figure() {
        let told = |low, high| span(Some(Range { low, high }));
        assert_eq!((told(90, 90), told(60, 7200)), ("1m 30s".to_owned(), "1m 0s to 2h 0m".to_owned()));
        assert_eq!((span(None), usd(None)), ("unknown".to_owned(), "unknown".to_owned()));
    }
}
