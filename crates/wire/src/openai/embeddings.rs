//! The input of embeddings: a text, an array of texts, an array of tokens, or an array of arrays of tokens.

use super::BodyScan;
use crate::{
    bad::BadCall,
    json::{Flaw, Kind, Scanner},
};

const ALLOWED: &str =
    "a text, an array of texts, an array of tokens or an array of arrays of tokens, none of them empty";
/// Digits of a token.
const LONGEST_TOKEN: usize = 10;

#[derive(Default)]
struct Entries {
    texts: usize,
    tokens: usize,
    /// Arrays of tokens, and the tokens in them.
    arrays: usize,
    inner: usize,
    others: usize,
    has_empty: bool,
    has_no_token: bool,
}

pub(super) fn input(scanner: &mut Scanner<'_>, found: &mut BodyScan<'_>) -> Result<(), Flaw> {
    let kind = scanner.kind()?;
    found.has_prompt = true;
    match kind {
        Kind::Text => {
            found.layout.inputs = Some(1);
            if scanner.string()?.raw.is_empty() {
                found.fault(bad("empty"));
            }
        }
        Kind::Array => {
            let start = scanner.at();
            let entries = entries(scanner)?;
            judge(&entries, found);
            let tokens = entries.tokens + entries.inner;
            if tokens > 0 && entries.texts == 0 {
                found.input.tokens = tokens as i64;
                found.not_text += scanner.at() - start;
            }
        }
        _ => {
            scanner.value()?;
            found.layout.inputs = None;
            found.fault(BadCall::kind("input", kind, ALLOWED));
        }
    }
    Ok(())
}

fn entries(scanner: &mut Scanner<'_>) -> Result<Entries, Flaw> {
    let mut seen = Entries::default();
    scanner.elements(|scanner| {
        match scanner.kind()? {
            Kind::Text => {
                seen.texts += 1;
                seen.has_empty |= scanner.string()?.raw.is_empty();
            }
            Kind::Number => {
                seen.tokens += 1;
                seen.has_no_token |= !is_token(scanner.number()?);
            }
            Kind::Array => {
                seen.arrays += 1;
                let count = scanner.elements(|scanner| {
                    match scanner.kind()? {
                        Kind::Number => seen.has_no_token |= !is_token(scanner.number()?),
                        _ => {
                            scanner.value()?;
                            seen.has_no_token = true;
                        }
                    }
                    Ok(())
                })?;
                seen.inner += count;
                seen.has_empty |= count == 0;
            }
            _ => {
                scanner.value()?;
                seen.others += 1;
            }
        }
        Ok(())
    })?;
    Ok(seen)
}

/// Counts the embeddings that are asked for, and names what no provider would take.
fn judge(seen: &Entries, found: &mut BodyScan<'_>) {
    let all = seen.texts + seen.tokens + seen.arrays + seen.others;
    found.layout.inputs = match all {
        0 => None,
        _ if seen.tokens == all => Some(1),
        _ => Some(all),
    };
    let got = match seen {
        _ if all == 0 => "empty",
        Entries { others: 1.., .. } => "an array of something else",
        _ if all != seen.texts.max(seen.tokens).max(seen.arrays) => "an array of several kinds",
        Entries { has_empty: true, .. } => "an array with an empty entry",
        Entries { has_no_token: true, .. } => "an array with a number that is no token",
        _ => return,
    };
    found.fault(bad(got));
}

fn bad(got: &str) -> BadCall {
    BadCall::Value { name: "input", got: got.to_owned(), allowed: ALLOWED }
}

fn is_token(number: &str) -> bool {
    number.len() <= LONGEST_TOKEN && number.bytes().all(|byte| byte.is_ascii_digit())
}
