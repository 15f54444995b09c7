//! The caller of a request. The access layer has authenticated it before any handler runs.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use engine::admit::{AuthError, Caller};

use crate::problem::Problem;

/// Where a connection comes from: of a load balancer, if one stands before the gateway.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// Extracts the caller that the access layer authenticated.
pub struct CurrentCaller(pub Arc<Caller>);

impl<S: Sync> FromRequestParts<S> for CurrentCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only a route that is open to everyone has none.
        let caller = parts.extensions.get::<Arc<Caller>>().ok_or(AuthError::Missing)?;
        Ok(Self(Arc::clone(caller)))
    }
}

/// The key in `Authorization: Bearer` or, failing that, in `x-api-key`.
pub fn presented(headers: &HeaderMap) -> Result<&str, AuthError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key);
    let key = bearer.or_else(|| text("x-api-key")).map(str::trim);
    key.filter(|key| !key.is_empty()).ok_or(AuthError::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], expected: Result<&str, AuthError>) {
        let map: HeaderMap = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        assert_eq!(presented(&map), expected, "{headers:?}");
    }

    #[test]
    fn a_key_is_found_in_either_header() {
        check(&[("authorization", "Bearer tw_1")], Ok("tw_1"));
        check(&[("authorization", "bearer  tw_1 ")], Ok("tw_1"));
        check(&[("x-api-key", "tw_2")], Ok("tw_2"));
        check(&[("authorization", "Bearer tw_1"), ("x-api-key", "tw_2")], Ok("tw_1"));
        check(&[("authorization", "Basic dXNlcg=="), ("x-api-key", "tw_2")], Ok("tw_2"));
    }

    #[test]
    fn no_key_is_no_key() {
        check(&[], Err(AuthError::Missing));
        check(&[("authorization", "Bearer ")], Err(AuthError::Missing));
        check(&[("authorization", "tw_1")], Err(AuthError::Missing));
        check(&[("x-api-key", "")], Err(AuthError::Missing));
    }
}
