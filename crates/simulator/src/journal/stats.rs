//! Counts over the journal, kept as calls come and go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{End, Outcome};

/// What `GET /sim/stats` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Over all deployments.
    #[serde(flatten)]
    pub all: Counts,
    /// Calls whose `x-client-request-id` an earlier call had carried already.
    pub duplicates: u64,
    /// Lines that could not be appended to the journal's file.
    pub journal_write_errors: u64,
    pub deployments: BTreeMap<String, Counts>,
}

/// Since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls that arrived.
    pub calls: u64,
    /// Calls that have not ended, those from before a reset included.
    pub in_flight: u64,
    pub max_in_flight: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Ended calls by status, `"200"` for one; `"none"` stands for those that got no status line.
    pub by_status: BTreeMap<String, u64>,
    pub by_outcome: BTreeMap<Outcome, u64>,
}

#[derive(Default)]
pub struct Tally {
    calls: u64,
    in_flight: u64,
    max_in_flight: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// A handful of pairs: looking through them is quicker than a map.
    by_status: Vec<(u16, u64)>,
    by_outcome: [u64; Outcome::ALL.len()],
}

impl Tally {
    pub fn arrive(&mut self) {
        self.calls += 1;
        self.in_flight += 1;
        self.max_in_flight = self.max_in_flight.max(self.in_flight);
    }

    /// A call ended; it is counted unless it arrived before a reset.
    pub fn leave(&mut self, end: Option<End>) {
        self.in_flight -= 1;
        let Some(end) = end else { return };
        self.prompt_tokens += u64::from(end.prompt_tokens);
        self.completion_tokens += u64::from(end.completion_tokens);
        self.by_outcome[end.outcome as usize] += 1;
        match self.by_status.iter_mut().find(|(status, _)| *status == end.status) {
            Some((_, count)) => *count += 1,
            None => self.by_status.push((end.status, 1)),
        }
    }

    pub fn reset(&mut self) {
        *self = Tally { in_flight: self.in_flight, max_in_flight: self.in_flight, ..Tally::default() };
    }

    pub fn counts(&self) -> Counts {
        let outcomes = Outcome::ALL.into_iter().zip(self.by_outcome);
        Counts {
            calls: self.calls,
            in_flight: self.in_flight,
            max_in_flight: self.max_in_flight,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            by_status: self.by_status.iter().map(|&(status, count)| (name(status), count)).collect(),
            by_outcome: outcomes.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn name(status: u16) -> String {
    if status == 0 { "none".into() } else { status.to_string() }
}
