//! `tollway ledger …`.

use clap::{ArgGroup, Args, Subcommand};
use domain::money::Total;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::{Client, segment},
    output::{self, line},
};

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Correct what an attempt is charged; reports and budgets follow
    Correct(Correct),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("wanted").required(true).args(["cost_usd", "usage", "void"])))]
pub struct Correct {
    /// The attempt's id, or that of a synchronous call with one attempt
    attempt: String,
    /// Total cost of the attempt, in USD
    #[arg(long, value_name = "AMOUNT")]
    cost_usd: Option<Total>,
    /// Its tokens, as input_uncached=1200,output_text=80, at prices of its time
    #[arg(long, value_name = "CLASS=N,…", value_delimiter = ',')]
    usage: Vec<String>,
    /// Set its cost and its usage to zero
    #[arg(long)]
    void: bool,
    /// Reason, for the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Corrected {
    attempt_id: String,
    correction_id: Option<String>,
    cost_was_usd: Option<Total>,
    cost_usd: Option<Total>,
}

pub async fn run(args: Ledger, common: &Common) -> Outcome {
    let Ledger::Correct(correct) = args;
    let path = format!("api/v1/ledger/{}/correct", segment(&correct.attempt));
    let corrected: Corrected = Client::find()?.post(&path, &body(correct)?).await?;
    if common.output == Format::Json {
        output::json(&corrected)?;
        return Ok(Exit::Done);
    }
    let said = |cost: Option<Total>| cost.map_or_else(|| "no price".to_owned(), |cost| format!("${cost}"));
    let (was, now) = (said(corrected.cost_was_usd), said(corrected.cost_usd));
    match corrected.correction_id {
        Some(id) => line(format!("Attempt {}: {was} → {now}, by the row {id}.", corrected.attempt_id))?,
        None => line(format!("Attempt {} is at {now} already.", corrected.attempt_id))?,
    }
    Ok(Exit::Done)
}

fn body(correct: Correct) -> Result<Value, Failure> {
    let Correct { cost_usd, usage, void, reason, .. } = correct;
    let mut body = Map::new();
    if let Some(cost) = cost_usd {
        body.insert("cost_usd".to_owned(), json!(cost));
    }
    if !usage.is_empty() {
        body.insert("usage".to_owned(), tokens(&usage)?);
    }
    if void {
        body.insert("void".to_owned(), json!(true));
    }
    if let Some(reason) = reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    Ok(body.into())
}

fn tokens(given: &[String]) -> Result<Value, Failure> {
    let mut counts = Map::new();
    for pair in given {
        let bad = || {
            Failure::usage(format_args!("--usage is written as class=count, such as output_text=80; {pair:?} is not"))
        };
        let (class, count) = pair.split_once('=').ok_or_else(bad)?;
        let count: u32 = count.trim().parse().map_err(|_| bad())?;
        if counts.insert(class.trim().to_owned(), json!(count)).is_some() {
            return Err(Failure::usage(format_args!("--usage names {class} twice")));
        }
    }
    Ok(counts.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_sent_as_the_api_reads_it() {
        let given = |usage: &[&str]| Correct {
            attempt: "a".into(),
            cost_usd: None,
            usage: usage.iter().map(|pair| (*pair).to_owned()).collect(),
            void: false,
            reason: Some("invoice 7".into()),
        };
        let sent = body(given(&["input_uncached=1200", "output_text = 80"])).unwrap();
        let expected = json!({"usage": {"input_uncached": 1200, "output_text": 80}, "reason": "invoice 7"});
        assert_eq!(sent, expected);
        for bad in [&["output_text"][..], &["output_text=-1"], &["output_text=x"], &["a=1", "a=2"]] {
            assert!(body(given(bad)).is_err(), "{bad:?}");
        }
    }
}
