//! Whether a deployment answers and takes its credential, asked by a request that costs nothing.

use std::time::Duration;

use domain::ErrorClass;
use serde::Deserialize;

use crate::{client::class_of, error::CallError, error::root_cause, pool::HttpClients, target::Target};

/// The longest list of models that is read, in bytes.
const LONGEST: usize = 4 << 20;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The names of the provider's models (`GET {base_url}/models`), sent as calls are: no proxy, no redirect. `None`: it answers,
/// and has no such list. An error says in its message what the operator should look at.
pub async fn list_models(
    http: &HttpClients,
    target: &Target,
    timeout: Duration,
) -> Result<Option<Vec<String>>, CallError> {
    let lent = target.lend(http)?;
    let request = lent.client.get(target.models_url()).headers(target.headers().clone()).timeout(timeout);
    let failed = |error: reqwest::Error| {
        let class = if error.is_timeout() { ErrorClass::ReadTimeout } else { ErrorClass::Connect };
        CallError::new(class, format!("cannot be reached: {}", root_cause(&error)))
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    match status.as_u16() {
        200..=299 => {}
        401 | 403 => return Err(CallError::new(ErrorClass::Credential, format!("refuses the credential ({status})"))),
        300..=399 => {
            let message = format!("answers with a redirect ({status}); base_url must be the final address");
            return Err(CallError::new(ErrorClass::UnexpectedStatus, message));
        }
        // It is there; not every server has a list.
        400..=499 => return Ok(None),
        _ => {
            let class = class_of(status.as_u16()).unwrap_or(ErrorClass::Unknown);
            return Err(CallError::new(class, format!("answered {status}")));
        }
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&part);
        if body.len() > LONGEST {
            return Err(CallError::new(ErrorClass::Garbage, "answers with a list of models that does not end"));
        }
    }
    let models: Models = serde_json::from_slice(&body)
        .map_err(|_| CallError::new(ErrorClass::Garbage, "answers with something that is no list of models"))?;
    Ok(Some(models.data.into_iter().map(|model| model.id).collect()))
}
