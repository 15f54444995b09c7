//! What an HTTP status says by itself about why a call failed. The body may say more, see [`super::said`].

use domain::ErrorClass;

/// `None` for a status that an answer comes with: 2xx but for those that have no body.
pub(crate) fn class_of(status: u16) -> Option<ErrorClass> {
    Some(match status {
        // No Content and Reset Content end after the head, whatever was asked.
        204 | 205 => ErrorClass::UnexpectedStatus,
        200..=299 => return None,
        429 => ErrorClass::Throttled,
        503 | 529 => ErrorClass::Overloaded,
        401 | 407 => ErrorClass::Credential,
        402 => ErrorClass::QuotaExhausted,
        403 => ErrorClass::Forbidden,
        404 | 410 => ErrorClass::ModelNotFound,
        451 => ErrorClass::RefusedContent,
        400 | 411 | 413..=415 | 422 | 431 => ErrorClass::InvalidRequest,
        // OpenAI's and Anthropic's own SDKs retry 408, 409 and 425 as they do a 500.
        408 | 409 | 425 | 500..=599 => ErrorClass::ServerError,
        // Redirects and the rest: most likely base_url leads to something that is no such API. Another deployment may do.
        _ => ErrorClass::UnexpectedStatus,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let classes = [
            (200, None),
            (201, None),
            (204, Some(ErrorClass::UnexpectedStatus)),
            (302, Some(ErrorClass::UnexpectedStatus)),
            (304, Some(ErrorClass::UnexpectedStatus)),
            (400, Some(ErrorClass::InvalidRequest)),
            (401, Some(ErrorClass::Credential)),
            (402, Some(ErrorClass::QuotaExhausted)),
            (403, Some(ErrorClass::Forbidden)),
            (404, Some(ErrorClass::ModelNotFound)),
            (405, Some(ErrorClass::UnexpectedStatus)),
            (408, Some(ErrorClass::ServerError)),
            (409, Some(ErrorClass::ServerError)),
            (410, Some(ErrorClass::ModelNotFound)),
            (413, Some(ErrorClass::InvalidRequest)),
            (418, Some(ErrorClass::UnexpectedStatus)),
            (422, Some(ErrorClass::InvalidRequest)),
            (425, Some(ErrorClass::ServerError)),
            (429, Some(ErrorClass::Throttled)),
            (451, Some(ErrorClass::RefusedContent)),
            (500, Some(ErrorClass::ServerError)),
            (502, Some(ErrorClass::ServerError)),
            (503, Some(ErrorClass::Overloaded)),
            (504, Some(ErrorClass::ServerError)),
            (529, Some(ErrorClass::Overloaded)),
            (700, Some(ErrorClass::UnexpectedStatus)),
        ];
        for (status, class) in classes {
            assert_eq!(class_of(status), class, "{status}");
        }
    }

    #[test]
    fn no_error_status_and_no_redirect_costs_anything() {
        for status in (100..1000).filter_map(class_of) {
            assert!(!status.may_be_billed(), "{status:?}");
        }
    }
}
