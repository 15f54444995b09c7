//! One call in memory, and the list of them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    Chat,
    /// Anthropic's.
    Messages,
    Embeddings,
    Models,
    /// A path or method that the simulator does not offer.
    Other,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended yet.
    Open,
    /// The whole answer was handed to the socket.
    Ok,
    /// An error status, or an answer that cannot be read (`garbage_rate`, `wrong_type_rate`).
    Error,
    /// Refused with 429 or 529.
    Throttled,
    /// The simulator closed the socket in the middle of the answer, by `cut_rate` or because it was shut down.
    Cut,
    /// Never answered; the call ended when the client gave up.
    Hung,
    /// The client left before the end of the answer.
    ClientGone,
}

impl Outcome {
    pub const ALL: [Outcome; 7] = [
        Outcome::Open,
        Outcome::Ok,
        Outcome::Error,
        Outcome::Throttled,
        Outcome::Cut,
        Outcome::Hung,
        Outcome::ClientGone,
    ];
}

/// The value of `x-client-request-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientId<'a> {
    None,
    Uuid(u128),
    Text(&'a str),
}

impl<'a> ClientId<'a> {
    /// Only a UUID in its usual spelling (lower case, with hyphens) becomes a number: the journal must be able to give the
    /// text back as it came.
    pub fn parse(text: &'a str) -> Self {
        let usual = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        match Uuid::try_parse(text) {
            Ok(id) if usual => ClientId::Uuid(id.as_u128()),
            _ => ClientId::Text(text),
        }
    }
}

/// How a call ended, and what it cost.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub outcome: Outcome,
    /// 0 when no status line was sent.
    pub status: u16,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    /// Bytes of the answer's body that were handed to the socket.
    pub bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IdKind {
    None,
    Uuid,
    Text,
}

#[derive(Clone, Copy)]
pub struct Record {
    id: [u64; 2],
    pub arrived_us: u64,
    /// 0 while the call is open.
    pub ended_us: u64,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub bytes: u32,
    pub model: u16,
    pub deployment: u16,
    pub status: u16,
    pub endpoint: Endpoint,
    pub outcome: Outcome,
    id_kind: IdKind,
}

impl Record {
    pub fn arrived(now_us: u64, deployment: u16, endpoint: Endpoint) -> Self {
        Self {
            id: [0; 2],
            arrived_us: now_us,
            ended_us: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            bytes: 0,
            model: 0,
            deployment,
            status: 0,
            endpoint,
            outcome: Outcome::Open,
            id_kind: IdKind::None,
        }
    }

    pub fn with_uuid(self, id: u128) -> Self {
        let id = [(id >> 64) as u64, id as u64];
        Self { id, id_kind: IdKind::Uuid, ..self }
    }

    pub fn with_text(self, number: u32) -> Self {
        let id = [0, u64::from(number)];
        Self { id, id_kind: IdKind::Text, ..self }
    }

    pub fn uuid(&self) -> Option<u128> {
        (self.id_kind == IdKind::Uuid).then(|| u128::from(self.id[0]) << 64 | u128::from(self.id[1]))
    }

    pub fn text(&self) -> Option<usize> {
        (self.id_kind == IdKind::Text).then_some(self.id[1] as usize)
    }

    pub fn end(&mut self, now_us: u64, end: End) {
        self.ended_us = now_us;
        self.outcome = end.outcome;
        self.status = end.status;
        self.prompt_tokens = end.prompt_tokens;
        self.completion_tokens = end.completion_tokens;
        self.bytes = end.bytes;
    }
}

/// Records by number, in pages of fixed size so that growing never copies them.
pub struct Records {
    pages: Vec<Vec<Record>>,
    first: u64,
    next: u64,
}

const PAGE: usize = 8_192;

impl Records {
    pub fn starting_at(first: u64) -> Self {
        Self { pages: Vec::new(), first, next: first }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn push(&mut self, record: Record) -> u64 {
        if ((self.next - self.first) as usize).is_multiple_of(PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(record);
        }
        self.next += 1;
        self.next - 1
    }

    pub fn get(&self, seq: u64) -> Option<&Record> {
        let at = seq.checked_sub(self.first)? as usize;
        self.pages.get(at / PAGE)?.get(at % PAGE)
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Record> {
        let at = seq.checked_sub(self.first)? as usize;
        self.pages.get_mut(at / PAGE)?.get_mut(at % PAGE)
    }

    /// Replaces `out` by the UUIDs of the next records from `from` on, and returns the number after the last of them.
    pub fn uuids(&self, from: u64, out: &mut Vec<u128>) -> u64 {
        let until = self.next.min(from + PAGE as u64);
        out.clear();
        out.extend((from..until).filter_map(|seq| self.get(seq)?.uuid()));
        until
    }
}
