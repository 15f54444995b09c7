//! Why a submission is refused. In every case nothing of it can run, and its idempotency key is free again.

use std::{fmt, io};

use admission::{budgets::Refusal, fit::NeverFits};
use domain::JobId;
use store::quota::Over;
use wire::BadLine;

use super::rate::Slow;

/// Flows of one job: requests that share model and endpoint.
pub const MOST_ROUTES: usize = 32;

/// Whose share of the upload permits is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    Key,
    Team,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "this API key",
            Self::Team => "this team",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A parameter of the job.
    #[error("{name}: {reason}")]
    Param { name: &'static str, reason: String },
    #[error("lane: there is no lane {lane:?}; there are {known}")]
    UnknownLane { lane: String, known: String },
    #[error("lane: {lane:?} is closed: what is in it is served, and it takes nothing new; there are {open}")]
    LaneClosed { lane: String, open: String },
    #[error("lane: this key may not use {lane:?}; it may use {allowed}")]
    LaneNotAllowed { lane: String, allowed: String },
    /// The one it is to come after. Or it is another team's.
    #[error("after: there is no job {job}")]
    NoSuchJob { job: JobId },
    /// A request of the job.
    #[error("{place}: {reason}")]
    Line { place: UploadPosition, reason: LineError },
    #[error("the upload has no requests; each line is {{\"custom_id\",\"method\",\"url\",\"body\"}}")]
    Empty,
    #[error("the upload has more than {limit} bytes")]
    TooLarge { limit: u64 },
    /// 413: what it unpacks to costs more than any text of its size.
    #[error(
        "it unpacks to more than {most} times its size ({packed} bytes became {unpacked}): send it unpacked, or in smaller \
         jobs; runs of blank lines or spaces can be left out"
    )]
    Bomb { packed: u64, unpacked: u64, most: u64 },
    #[error("{packed} bytes of gzip unpacked to {unpacked}; empty members and long headers can be left out")]
    Hollow { packed: u64, unpacked: u64 },
    /// 413.
    #[error("the upload has more than {most} blank lines; remove them")]
    TooBlank { most: u64 },
    #[error("body starts with a gzip header but cannot be decompressed: {0}")]
    Gzip(io::Error),
    /// The JSON body as a whole; lines of JSONL are [`SubmitError::Line`].
    #[error("not a job: {0}")]
    Document(String),
    /// 413: it could never be taken.
    #[error(
        "this job alone is over its team's quota {}: {} of at most {}; submit it in smaller jobs, each when others {}, or \
         have the quota raised", .0.kind, .0.asked, .0.cap, gone(.0)
    )]
    AloneOverQuota(Over),
    /// 429: it can be taken when others have ended; by its bytes when those are deleted or past their retention.
    #[error(
        "its team's quota {} is used up: other jobs hold {} of {}, and this one came to {} so far; submit it again when some \
         {}, or have the quota raised", .0.kind, .0.used, .0.cap, .0.asked, gone(.0)
    )]
    OverQuota(Over),
    /// Passes by itself; submit again.
    #[error("this gateway takes {uploads} uploads at once, and as many are under way; submit it again in a moment")]
    Busy { uploads: usize },
    /// 429: its own uploads are in the way. Passes by itself; submit again.
    #[error(
        "{of} has {most} uploads under way, as many as it may have at once; submit it again when one of them has ended"
    )]
    ShareBusy { of: Share, most: usize },
    /// 408; or 503 where others waited for its place.
    #[error(transparent)]
    Slow(#[from] Slow),
    /// The client went away, or its connection broke.
    #[error("the upload ended before it was whole: {0}")]
    Cut(io::Error),
    /// 409: wait for the other one, or use another key.
    #[error("a submission with this idempotency key is under way")]
    InFlight,
    /// 422: the caller mixed two jobs up.
    #[error("this idempotency key was used for another job: its body or its parameters were different")]
    Mismatch,
    /// 402: not before the budget resets, or is raised.
    #[error("{0}")]
    OverBudget(Box<Refusal>),
    /// Passes by itself; submit again.
    #[error("the upload was given up because this gateway had lost touch with the database; submit it again")]
    Abandoned,
    /// Passes by itself; submit again.
    #[error("the database is not available now; submit again later")]
    Unavailable(#[source] store::Error),
    /// The answer to the last commit was lost.
    #[error(
        "the database went away while {job} was being accepted; see whether it exists, or submit it again under the same \
         idempotency key"
    )]
    InDoubt { job: JobId },
}

/// When a job no longer counts against the quota.
fn gone(over: &Over) -> &'static str {
    match over.kind {
        "pending_bytes" => "are gone from the disk: ended jobs count until they are deleted or their retention is over",
        _ => "have ended or were cancelled",
    }
}

impl From<store::Error> for SubmitError {
    fn from(error: store::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl SubmitError {
    pub(super) fn over(over: Over) -> Self {
        if over.asked > over.cap { Self::AloneOverQuota(over) } else { Self::OverQuota(over) }
    }

    pub(super) fn param(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Param { name, reason: reason.into() }
    }
}

/// Where in the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadPosition {
    /// As an editor counts: from 1, in the decompressed file, with the job's own line and blank ones.
    Line(u64),
    /// Of a JSON body, from 0.
    Request(u64),
}

impl fmt::Display for UploadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Request(index) => write!(f, "requests[{index}]"),
        }
    }
}

/// What is wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("{0}")]
    Bad(#[from] BadLine),
    /// It would wait for ever.
    #[error("{0}")]
    NeverFits(#[from] NeverFits),
    /// Of the job's own line.
    #[error("job: {0}")]
    Params(String),
    #[error("there is no model {model:?}; there are {known}")]
    UnknownModel { model: String, known: String },
    #[error(
        "model {model:?} has no price for such a request; an operator can declare one under [[prices]] (chat needs `output` too), \
         or set allow_unpriced on its route"
    )]
    Unpriced { model: String },
    #[error("model {model:?} does not serve /v1{path}: its deployments are of kind {kinds}")]
    NotServed { model: String, path: &'static str, kinds: String },
    #[error(
        "model {model:?} cannot serve embeddings: its deployments run different models, whose vectors cannot be compared"
    )]
    MixedModels { model: String },
    #[error("custom_id {0:?} was used by an earlier line")]
    Duplicate(String),
    #[error("custom_id contains a NUL character")]
    Nul,
    #[error("a job can use at most {MOST_ROUTES} models")]
    TooManyRoutes,
    #[error("a job has at most {0} requests")]
    TooMany(i32),
}

#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// Or it is another team's.
    #[error("there is no such job")]
    NotFound,
    #[error("a job that is {state} cannot be retried: it has not ended")]
    NotEnded { state: String },
    #[error("its bodies were purged; submit the requests again")]
    Purged,
    #[error("there is nothing to retry: no request of it failed in that way")]
    Nothing,
    #[error("an earlier version made it and did not keep where its requests went; submit them again")]
    TooOld,
    #[error("model {model:?} is no longer served, or has no price")]
    NoModel { model: String },
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<store::Error> for RetryError {
    fn from(error: store::Error) -> Self {
        Self::Submit(error.into())
    }
}
