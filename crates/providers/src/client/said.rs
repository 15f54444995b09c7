//! What a provider's error object says, and the class that follows from it. Its identifiers (`type`, `code`) may be shown;
//! its message may quote the prompt, so it is read for the class and never passed on.

use std::fmt;

use domain::ErrorClass;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::status::class_of;
use crate::target::Target;

/// A message longer than this may be the prompt given back: nothing is concluded from its words.
const LONGEST_MESSAGE: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Said {
    status: Option<u16>,
    /// The short words that name the fault and quote nothing.
    words: Vec<String>,
    /// In lower case, for the class only.
    message: String,
    /// The member of the request that is to blame.
    param: String,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    /// FastAPI's name for it.
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
}

/// Codes of an account that has to be paid for.
const BILLING: [&str; 6] = [
    "insufficient_quota",
    "billing",
    "insufficient_balance",
    "insufficient_credit",
    "payment",
    "exceeded_current_quota",
];
/// The same said in a sentence, by providers whose code is a plain `invalid_request_error`.
const BILLING_MESSAGES: [&str; 6] = [
    "credit balance is too low",
    "insufficient balance",
    "insufficient credit",
    "out of credits",
    "spend limit",
    "reached your specified api usage limits",
];
const NO_MODEL: [&str; 6] =
    ["model_not_found", "unknown_model", "invalid_model", "no_such_model", "deploymentnotfound", "modelnotfound"];
const NO_MODEL_MESSAGES: [&str; 3] = ["model not exist", "model not found", "no such model"];
const THROTTLED: [&str; 4] = ["rate_limit", "quota", "too_many", "resource_exhausted"];
const OVERLOADED: [&str; 2] = ["overloaded", "unavailable"];
const KEY: [&str; 8] = [
    "authentication",
    "permission",
    "api_key",
    "apikey",
    "unauthorized",
    "access_denied",
    "invalid_token",
    "unsupported_country",
];
const KEY_MESSAGES: [&str; 6] = ["api key", "api-key", "credential", "permission", "not authorized", "authentication"];
const CONTENT: [&str; 6] = ["content_policy", "content_filter", "moderation", "safety", "prompt", "policy_violation"];
const CONTENT_MESSAGES: [&str; 7] =
    ["prompt", "content policy", "usage policy", "usage policies", "moderation", "flagged", "safety"];
/// Words that only repeat the status.
const GENERAL: [&str; 8] = [
    "invalid_request_error",
    "badrequesterror",
    "bad_request",
    "badrequest",
    "validation_error",
    "value_error",
    "not_found_error",
    "notfounderror",
];
const REQUEST: [&str; 2] = ["invalid_request", "context_length"];

impl Said {
    /// Of `{"error":{…}}`, of `{"error":"…"}`, or of the inner object itself.
    pub fn of(raw: &RawValue, target: &Target) -> Self {
        let mut said = Self::about(raw);
        if let Some(secret) = &target.credential {
            said.words.retain(|word| !word.contains(secret.expose_secret()));
        }
        said
    }

    /// The same without a look at the credential: not to be shown.
    pub fn about(raw: &RawValue) -> Self {
        let Ok(outer) = serde_json::from_str::<Wire<'_>>(raw.get()) else {
            return Self { message: message(Some(raw)), ..Self::default() };
        };
        let plain = outer.error.filter(|raw| raw.get().starts_with('"'));
        let inner = outer.error.and_then(|raw| serde_json::from_str::<Wire<'_>>(raw.get()).ok()).unwrap_or(outer);
        let status = inner.code.or(inner.status).and_then(|raw| raw.get().trim_matches('"').parse().ok());
        let words = [inner.kind, inner.code].into_iter().flatten().filter_map(word).collect();
        Self {
            status: status.filter(|status| (400..600).contains(status)),
            words,
            message: message(inner.message.or(inner.detail).or(plain)),
            param: inner.param.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default(),
        }
    }

    fn names(&self, parts: &[&str]) -> bool {
        self.words.iter().any(|word| {
            let word = word.to_ascii_lowercase();
            parts.iter().any(|part| word.contains(part))
        })
    }

    fn tells(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.message.contains(phrase))
    }

    /// Why a call failed that was answered with `status`.
    pub fn class_under(&self, status: u16) -> Option<ErrorClass> {
        let by_status = class_of(status)?;
        Some(match by_status {
            ErrorClass::InvalidRequest | ErrorClass::Forbidden | ErrorClass::Throttled | ErrorClass::Credential
                if self.is_about_billing() =>
            {
                ErrorClass::QuotaExhausted
            }
            ErrorClass::InvalidRequest | ErrorClass::Forbidden if self.is_about_the_model() => {
                ErrorClass::ModelNotFound
            }
            ErrorClass::Forbidden => self.whose_forbidden(),
            // A file, a stored answer or a tool that the request names, and that does not exist.
            ErrorClass::ModelNotFound if !self.is_about_the_model() && self.blames_another_member() => {
                ErrorClass::InvalidRequest
            }
            class => class,
        })
    }

    /// Why a call failed that was answered with 200.
    pub fn class(&self) -> ErrorClass {
        if let Some(class) = self.status.and_then(|status| self.class_under(status)) {
            return class;
        }
        if self.is_about_billing() {
            ErrorClass::QuotaExhausted
        } else if self.names(&THROTTLED) {
            ErrorClass::Throttled
        } else if self.names(&OVERLOADED) {
            ErrorClass::Overloaded
        } else if self.is_about_the_model() {
            ErrorClass::ModelNotFound
        } else if self.names(&KEY) {
            ErrorClass::Credential
        } else if self.names(&CONTENT) {
            ErrorClass::RefusedContent
        } else if self.names(&REQUEST) {
            ErrorClass::InvalidRequest
        } else {
            ErrorClass::ServerError
        }
    }

    /// Identifiers decide before sentences, for a sentence about a key may speak of a prompt. One that speaks of both leaves it open.
    fn whose_forbidden(&self) -> ErrorClass {
        let of = |key: bool, content: bool| match (key, content) {
            (true, false) => Some(ErrorClass::Credential),
            (false, true) => Some(ErrorClass::RefusedContent),
            _ => None,
        };
        of(self.names(&KEY), self.names(&CONTENT))
            .or_else(|| of(self.tells(&KEY_MESSAGES), self.tells(&CONTENT_MESSAGES)))
            .unwrap_or(ErrorClass::Forbidden)
    }

    /// Whether it names a cause: a member of the request, or a code that is more than the status in words.
    pub fn is_explained(&self, status: u16) -> bool {
        let general = |word: &String| {
            let word = word.to_ascii_lowercase();
            word == status.to_string() || GENERAL.iter().any(|general| word == *general)
        };
        let names_a_cause = !self.words.is_empty() && !self.words.iter().all(general);
        // A server error that is given a type is a known one of its kind.
        !self.param.is_empty() || names_a_cause || (status >= 500 && !self.words.is_empty())
    }

    fn is_about_billing(&self) -> bool {
        self.names(&BILLING) || self.tells(&BILLING_MESSAGES)
    }

    fn is_about_the_model(&self) -> bool {
        self.names(&NO_MODEL) || self.tells(&NO_MODEL_MESSAGES)
    }

    fn blames_another_member(&self) -> bool {
        !self.param.is_empty() && self.param != "model"
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.words.is_empty() { Ok(()) } else { write!(f, " ({})", self.words.join(", ")) }
    }
}

fn message(raw: Option<&RawValue>) -> String {
    let text: String = raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    if text.len() > LONGEST_MESSAGE { String::new() } else { text.to_lowercase() }
}

/// An identifier such as `rate_limit_exceeded`; free text might quote the prompt.
fn word(raw: &RawValue) -> Option<String> {
    let word = raw.get().trim_matches('"');
    let fits = !word.is_empty()
        && word != "null"
        && word.len() <= 64
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    fits.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;

    fn said(json: &str) -> Said {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        Said::of(serde_json::from_str(json).unwrap(), &target)
    }

    fn under(status: u16, body: &str, class: ErrorClass) {
        assert_eq!(said(body).class_under(status), Some(class), "{status} {body}");
    }

    #[test]
    fn a_forbidden_call_is_the_keys_the_contents_or_open() {
        under(403, r#"{"error":{"message":"prompt blocked"}}"#, ErrorClass::RefusedContent);
        under(403, r#"{"error":{"code":"content_policy_violation"}}"#, ErrorClass::RefusedContent);
        under(403, r#"{"error":"Your input was flagged by moderation"}"#, ErrorClass::RefusedContent);
        under(403, r#"{"error":{"type":"permission_error","message":"prompt caching"}}"#, ErrorClass::Credential);
        under(403, r#"{"error":{"message":"This API key may not be used here"}}"#, ErrorClass::Credential);
        under(403, r#"{"error":{"code":"unsupported_country_region_territory"}}"#, ErrorClass::Credential);
        under(403, r#"{"error":{"message":"Forbidden"}}"#, ErrorClass::Forbidden);
        under(403, r#"{"error":{"message":"This API key has no prompt caching"}}"#, ErrorClass::Forbidden);
        under(403, r#"{"detail":"no"}"#, ErrorClass::Forbidden);
        under(401, r#"{"error":{"message":"prompt blocked"}}"#, ErrorClass::Credential);
    }

    #[test]
    fn a_long_message_may_be_the_prompt_and_decides_nothing() {
        let long = format!(r#"{{"error":{{"message":"model not found {}"}}}}"#, "x".repeat(LONGEST_MESSAGE));
        under(400, &long, ErrorClass::InvalidRequest);
    }

    #[test]
    fn an_account_without_credit_is_not_busy() {
        under(
            429,
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
            ErrorClass::QuotaExhausted,
        );
        under(429, r#"{"error":{"code":"billing_hard_limit_reached"}}"#, ErrorClass::QuotaExhausted);
        under(429, r#"{"error":{"type":"exceeded_current_quota_error"}}"#, ErrorClass::QuotaExhausted);
        under(403, r#"{"error":{"message":"Insufficient balance"}}"#, ErrorClass::QuotaExhausted);
        let anthropic = "Your credit balance is too low to access the Anthropic API.";
        under(
            400,
            &format!(r#"{{"error":{{"type":"invalid_request_error","message":"{anthropic}"}}}}"#),
            ErrorClass::QuotaExhausted,
        );
        let capped = "You have reached your specified API usage limits. You will regain access on 2026-12-01.";
        let body = format!(r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"{capped}"}}}}"#);
        under(400, &body, ErrorClass::QuotaExhausted);
        let spent = "This request would exceed your account's monthly spend limit. Please try again later.";
        let body = format!(r#"{{"type":"error","error":{{"type":"rate_limit_error","message":"{spent}"}}}}"#);
        under(429, &body, ErrorClass::QuotaExhausted);
        under(402, "{}", ErrorClass::QuotaExhausted);
        // Google's word for a quota per minute.
        under(
            429,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota"}}"#,
            ErrorClass::Throttled,
        );
        under(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#, ErrorClass::Throttled);
    }

    #[test]
    fn a_model_that_does_not_exist_is_the_deployments_fault() {
        under(404, r#"{"error":{"code":"model_not_found"}}"#, ErrorClass::ModelNotFound);
        under(404, r#"{"error":{"code":"DeploymentNotFound"}}"#, ErrorClass::ModelNotFound);
        under(404, r#"{"detail":"Not Found"}"#, ErrorClass::ModelNotFound);
        under(
            400,
            r#"{"error":{"message":"Model Not Exist","code":"invalid_request_error"}}"#,
            ErrorClass::ModelNotFound,
        );
        under(403, r#"{"error":{"code":"model_not_found"}}"#, ErrorClass::ModelNotFound);
        under(404, r#"{"error":{"message":"No such file","param":"file_id"}}"#, ErrorClass::InvalidRequest);
        under(404, r#"{"error":{"code":"model_not_found","param":"model"}}"#, ErrorClass::ModelNotFound);
        under(400, r#"{"error":{"code":"context_length_exceeded","param":"messages"}}"#, ErrorClass::InvalidRequest);
    }

    #[test]
    fn an_error_that_only_repeats_its_status_explains_nothing() {
        let check = |status, json: &str, expected| assert_eq!(said(json).is_explained(status), expected, "{json}");
        check(400, r#"{"error":{"message":"Bad request","type":"invalid_request_error"}}"#, false);
        check(400, r#"{"object":"error","type":"BadRequestError","code":400}"#, false);
        check(500, r#"{"detail":"Internal Server Error"}"#, false);
        check(400, r#"{"error":{"code":"context_length_exceeded"}}"#, true);
        check(400, r#"{"error":{"type":"invalid_request_error","param":"messages"}}"#, true);
        check(500, r#"{"error":{"type":"server_error"}}"#, true);
    }

    #[test]
    fn an_error_without_a_status_has_a_class() {
        let check = |json: &str, class| assert_eq!(said(json).class(), class, "{json}");
        check(r#"{"type":"rate_limit_error"}"#, ErrorClass::Throttled);
        check(r#"{"code":"insufficient_quota"}"#, ErrorClass::QuotaExhausted);
        check(r#"{"code":"model_not_found"}"#, ErrorClass::ModelNotFound);
        check(r#"{"code":"content_filter"}"#, ErrorClass::RefusedContent);
        check(r#"{"code":403,"message":"prompt blocked"}"#, ErrorClass::RefusedContent);
        check(r#""model not loaded""#, ErrorClass::ServerError);
    }
}
