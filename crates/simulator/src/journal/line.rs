//! One call as a line of JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Pages;
use super::record::{Endpoint, Outcome, Record};

/// A line of `GET /sim/journal` and of the journal's file. Tests can read it with
/// `serde_json::from_str::<JournalLine<'static>>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalLine<'a> {
    /// Counts from 1 in the order of arrival. First in the line, so that a file's last number is found without parsing.
    pub seq: u64,
    pub deployment: Cow<'a, str>,
    /// `x-client-request-id` as it was sent.
    pub client_request_id: Option<Cow<'a, str>>,
    /// Microseconds since 1970, UTC.
    pub arrived_us: u64,
    /// `None` while the call is open.
    pub ended_us: Option<u64>,
    pub endpoint: Endpoint,
    /// Empty until the body was read, and when it names none.
    pub model: Cow<'a, str>,
    /// `None` when no status line was sent.
    pub status: Option<u16>,
    pub outcome: Outcome,
    /// What the provider bills: 0 for calls that were refused, hung or answered with rubbish.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Bytes of the answer's body that were handed to the socket.
    pub bytes: u64,
}

pub fn write(pages: &Pages, seq: u64, record: &Record, out: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    let client_request_id: Option<&str> = match (record.uuid(), record.text()) {
        (Some(id), _) => Some(Uuid::from_u128(id).hyphenated().encode_lower(&mut buffer)),
        (None, text) => text.map(|number| pages.texts.text(number)),
    };
    let line = JournalLine {
        seq,
        deployment: pages.deployments.text(usize::from(record.deployment)).into(),
        client_request_id: client_request_id.map(Cow::Borrowed),
        arrived_us: record.arrived_us,
        ended_us: (record.ended_us > 0).then_some(record.ended_us),
        endpoint: record.endpoint,
        model: pages.models.text(usize::from(record.model)).into(),
        status: (record.status > 0).then_some(record.status),
        outcome: record.outcome,
        prompt_tokens: record.prompt_tokens.into(),
        completion_tokens: record.completion_tokens.into(),
        bytes: record.bytes.into(),
    };
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}
