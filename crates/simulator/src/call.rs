//! One call's entry in the journal, from arrival to end.

use std::sync::Arc;

use hyper::HeaderMap;

use crate::deployment::Deployment;
use crate::journal::{ClientId, End, Endpoint, Outcome};
use crate::sim::Sim;
use crate::tokens::Tokens;

const CLIENT_REQUEST_ID: &str = "x-client-request-id";

/// Dropping it writes its end: as the client's leaving, unless something else was said.
pub struct Call {
    sim: Arc<Sim>,
    deployment: u16,
    pub seq: u64,
    end: End,
}

impl Call {
    pub fn arrive(sim: &Arc<Sim>, deployment: &Deployment, endpoint: Endpoint, headers: &HeaderMap) -> Self {
        let sent = headers.get(CLIENT_REQUEST_ID).map(|value| value.to_str());
        let id = match sent {
            Some(Ok(text)) => ClientId::parse(text),
            Some(Err(_)) | None => ClientId::None,
        };
        Self {
            seq: sim.journal.arrive(deployment.number, endpoint, id),
            sim: sim.clone(),
            deployment: deployment.number,
            end: End { outcome: Outcome::ClientGone, status: 0, prompt_tokens: 0, completion_tokens: 0, bytes: 0 },
        }
    }

    pub fn parsed(&self, model: &str) {
        self.sim.journal.parsed(self.seq, model);
    }

    /// Notes what has been handed to the socket so far, and what it costs.
    pub fn sent(&mut self, status: u16, tokens: Tokens, bytes: usize) {
        self.end.status = status;
        self.end.prompt_tokens = clamp(tokens.prompt);
        self.end.completion_tokens = clamp(tokens.completion);
        self.end.bytes = clamp(bytes as u64);
    }

    /// Whenever it ends now, it was never answered.
    pub fn hang(&mut self) {
        self.end.outcome = Outcome::Hung;
    }

    pub fn finish(mut self, outcome: Outcome) {
        self.end.outcome = outcome;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.end.outcome == Outcome::ClientGone && self.sim.is_stopping() {
            self.end.outcome = Outcome::Cut;
        }
        self.sim.journal.end(self.seq, self.deployment, self.end);
    }
}

fn clamp(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
