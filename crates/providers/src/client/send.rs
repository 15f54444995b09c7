//! One POST, and what it means when no answer comes back.

use bytes::Bytes;
use domain::{AttemptId, Endpoint, ErrorClass};
use reqwest::{
    Method, Request, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::Instant;

use super::{
    send_marker::{GoneOut, Sent},
    timeouts::CallTimer,
};
use crate::{
    error::{CallError, root_cause},
    pool::{HttpClients, Lent},
    target::Target,
};

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
/// Where providers put their own id of a call.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"];
const LONGEST_ID: usize = 128;

/// An answer's head; its body is still to come.
pub(crate) struct Reply {
    pub response: Response,
    pub timer: CallTimer,
    pub request_id: Option<String>,
    /// Until the last byte is in.
    pub lent: Lent,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The credential-free context that every error about this answer carries.
    pub fn blame(&self, mut error: CallError) -> CallError {
        error.http_status = Some(self.status());
        error.provider_request_id.clone_from(&self.request_id);
        error
    }
}

/// What is sent, once.
pub(crate) struct Post {
    pub endpoint: Endpoint,
    pub body: Bytes,
    pub attempt_id: AttemptId,
    pub started: Instant,
}

pub(crate) async fn post(http: &HttpClients, target: &Target, post: Post) -> Result<Reply, CallError> {
    let url = target.url(post.endpoint)?.clone();
    let lent = target.lend(http)?;
    let (body, gone_out) = Sent::new(post.body);
    let mut request = Request::new(Method::POST, url);
    *request.headers_mut() = headers(target.headers(), post.attempt_id);
    *request.body_mut() = Some(reqwest::Body::wrap(body));

    let mut timer = CallTimer::new(target, post.started, gone_out.clone());
    let response = match timer.wait(lent.client.execute(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(no_answer(&error, target, &gone_out)),
        Err(out_of_time) => return Err(out_of_time.into_error(target)),
    };
    let request_id = request_id(response.headers());
    Ok(Reply { response, timer, request_id, lent })
}

fn headers(shared: &HeaderMap, attempt_id: AttemptId) -> HeaderMap {
    let mut headers = shared.clone();
    let mut text = [0u8; 36];
    let id = attempt_id.hyphenated().encode_lower(&mut text);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(CLIENT_REQUEST_ID, value);
    }
    headers
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = REQUEST_IDS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
    (!value.is_empty() && value.len() <= LONGEST_ID).then(|| value.to_owned())
}

/// `Connect` promises that nothing was sent; once the request is out, a lost connection leaves open whether it was done.
fn no_answer(error: &reqwest::Error, target: &Target, gone_out: &GoneOut) -> CallError {
    let cause = root_cause(error);
    let name = &target.name;
    if error.is_connect() && error.is_timeout() {
        let message =
            format!("no connection to deployment {name} within {:?} (connect_timeout_ms)", target.connect_timeout);
        CallError::new(ErrorClass::ConnectTimeout, message)
    } else if error.is_connect() || gone_out.get().is_none() {
        CallError::new(ErrorClass::Connect, format!("no connection to deployment {name}: {cause}"))
    } else if cause.starts_with("invalid HTTP") {
        CallError::new(ErrorClass::Garbage, format!("deployment {name} does not answer in HTTP: {cause}"))
    } else {
        CallError::new(ErrorClass::Cut, format!("deployment {name} closed the connection without an answer: {cause}"))
    }
}
