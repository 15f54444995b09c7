//! Calls that the Python package genai-prices has priced; `scripts/refresh-prices` writes them beside the list.

use pricing::{PriceList, PriceQuery, Processing, charge};
use serde_json::from_str;

use crate::{at, usage};

/// Provider, model, time, processing, service tier, counts, pico-USD.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str, Option<&'a str>, [i64; 9], Option<i64>);

#[test]
fn every_call_costs_what_genai_prices_says() {
    let list = PriceList::shipped();
    let cases: Vec<Case<'_>> = include_str!("genai-cases.jsonl").lines().map(|line| from_str(line).unwrap()).collect();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case @ (provider, model, time, processing, service_tier, counts, want)| {
            let processing = match *processing {
                "sync" => Processing::Sync,
                "provider_batch" => Processing::ProviderBatch,
                other => panic!("{other}"),
            };
            let query = PriceQuery { provider, model, processing, service_tier: *service_tier };
            let price = list.find(&query, at(time)).ok();
            let cost = price.and_then(|price| charge(&price, &usage(*counts)).unwrap().contracted_cost);
            let got = cost.map(|cost| cost.pico());
            (got != *want).then(|| format!("{case:?}: we say {got:?}"))
        })
        .collect();
    assert!(cases.len() > 500 && cases.iter().filter(|case| case.6.is_some()).count() > 500);
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
