//! What an HTTP status says about whose fault it is.

use domain::ErrorClass;

/// `None` for 2xx.
pub(crate) fn class_of(status: u16) -> Option<ErrorClass> {
    Some(match status {
        200..=299 => return None,
        429 => ErrorClass::Throttled,
        503 | 529 => ErrorClass::Overloaded,
        // 402 is an account without credit: the operator's affair, as a bad key is.
        401..=403 | 407 => ErrorClass::Credential,
        400 | 404 | 409 | 411 | 413..=415 | 422 | 431 | 451 => ErrorClass::InvalidRequest,
        408 | 500..=599 => ErrorClass::ServerError,
        // Redirects and the rest: most likely base_url leads to something that is no such API. Another deployment may do.
        _ => ErrorClass::Garbage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let classes = [
            (200, None),
            (204, None),
            (302, Some(ErrorClass::Garbage)),
            (400, Some(ErrorClass::InvalidRequest)),
            (401, Some(ErrorClass::Credential)),
            (402, Some(ErrorClass::Credential)),
            (403, Some(ErrorClass::Credential)),
            (404, Some(ErrorClass::InvalidRequest)),
            (405, Some(ErrorClass::Garbage)),
            (408, Some(ErrorClass::ServerError)),
            (409, Some(ErrorClass::InvalidRequest)),
            (413, Some(ErrorClass::InvalidRequest)),
            (422, Some(ErrorClass::InvalidRequest)),
            (429, Some(ErrorClass::Throttled)),
            (500, Some(ErrorClass::ServerError)),
            (502, Some(ErrorClass::ServerError)),
            (503, Some(ErrorClass::Overloaded)),
            (504, Some(ErrorClass::ServerError)),
            (529, Some(ErrorClass::Overloaded)),
            (700, Some(ErrorClass::Garbage)),
        ];
        for (status, class) in classes {
            assert_eq!(class_of(status), class, "{status}");
        }
    }
}
