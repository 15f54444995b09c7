//! Every ledger row is in Parquet exactly once, and a report's total is the ledger's sum.

use serde_json::{Value, json};

use crate::{binary::Ran, database::Database, gateway::Gateway, polling::until};

/// The gateway's own export may be at it.
const BUSY: i32 = 7;

pub async fn check(db: &Database, gateway: &Gateway) {
    when_free(gateway, &["--output", "json", "lake", "export"]).await.expect(0);
    let found = when_free(gateway, &["--output", "json", "lake", "verify"]).await.expect(0).json();
    // Entries, of which none may lack its context: it would be no row of the ledger.
    let rows = db.number("select count(*) from ledger_entry").await;
    let cost: i128 =
        db.text("select coalesce(sum(contracted_cost), 0)::text from ledger").await.parse().expect("a whole number");
    assert_eq!(found["waiting"], 0, "{found}");
    assert_eq!(found["differences"], json!([]), "{found}");
    for side in ["ledger", "lake"] {
        assert_eq!(found[side]["rows"], rows, "{side}: {found}");
        assert_eq!(pico(&found[side]["cost_usd"]), cost, "{side}: {found}");
    }
    // All days: the database's clock may be on another one than the command's.
    let days = ["--from", "2000-01-01", "--to", "2100-01-01"];
    let report = ["--output", "json", "report", "spend", "--by", "team,model"];
    let report = when_free(gateway, &[&report[..], &days[..]].concat()).await.expect(0).json();
    let rows = report["rows"].as_array().unwrap_or_else(|| panic!("a report has rows: {report}"));
    assert_eq!(rows.iter().map(|row| pico(&row["cost_usd"])).sum::<i128>(), cost, "{report}");
    assert_eq!(pico(&report["total"]["cost_usd"]), cost, "{report}");
}

/// Runs a command of the lake, again while somebody else is at it.
pub async fn when_free(gateway: &Gateway, args: &[&str]) -> Ran {
    until("the lake to be free", crate::SOON, async || {
        let ran = gateway.run("", args).await;
        (ran.code != Some(BUSY)).then_some(ran)
    })
    .await
}

/// In pico-USD.
pub const DOLLAR: i128 = 1_000_000_000_000;

/// USD as decimal text → pico-USD, exactly; null, where nothing has a price, adds nothing.
pub fn pico(usd: &Value) -> i128 {
    let text = if usd.is_null() { "0" } else { usd.as_str().unwrap_or_else(|| panic!("money is text: {usd}")) };
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let joined = format!("{whole}{places:0<12}");
    sign * joined.parse::<i128>().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usd_becomes_pico_usd() {
        for (text, expected) in [("0", 0), ("0.00", 0), ("1.5", 1_500_000_000_000), ("-0.000000000012", -12)] {
            assert_eq!(pico(&json!(text)), expected, "{text}");
        }
    }
}
