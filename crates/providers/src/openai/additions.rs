//! Whether a refusal is because of what Tollway asked for beyond the caller's request. The caller is not to blame for that: the call goes
//! out once more without it, and the deployment is remembered.

use domain::ErrorClass;

use crate::{
    client::is_explained,
    error::CallError,
    target::{Extra, Target},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The refusal names it.
    Named,
    /// The refusal names nothing, and the deployment never answered a call with it.
    Possible,
}

/// Failures without `extra` succeeding, of a kind that may be chance, before it is believed to be the cause.
const CHANCES: u8 = 2;

pub(super) fn blame(extra: Extra, error: &CallError, target: &Target) -> Option<Blame> {
    let status = error.http_status?;
    let names: &[&str] = match extra {
        Extra::Base64 => &["encoding_format"],
        Extra::StreamUsage => &["stream_options", "include_usage"],
    };
    let body = error.body.as_deref().unwrap_or_default();
    let is_named = names.iter().any(|name| memchr::memmem::find(body, name.as_bytes()).is_some());
    if is_named && matches!(status, 400 | 404 | 422 | 500 | 501) {
        return Some(Blame::Named);
    }
    let is_plain = match error.class {
        ErrorClass::InvalidRequest | ErrorClass::ModelNotFound => matches!(status, 400 | 404 | 422),
        ErrorClass::ServerError => matches!(status, 500 | 501),
        _ => false,
    };
    (is_plain && !is_explained(body, status) && !target.is_known_to_take(extra)).then_some(Blame::Possible)
}

/// The call that was refused with `extra` was answered without it.
pub(super) fn convict(extra: Extra, blame: Blame, error: &CallError, target: &Target) {
    // A server error may have passed by itself in the meantime.
    let is_sure = blame == Blame::Named || error.class != ErrorClass::ServerError || target.suspect(extra) >= CHANCES;
    if is_sure {
        leave_out(extra, target);
    }
}

pub(super) fn leave_out(extra: Extra, target: &Target) {
    target.refuses(extra);
    tracing::info!(deployment = %target.name, ?extra, "The provider refuses an addition; it is left out from now on");
}
