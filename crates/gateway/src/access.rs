//! The access layer of every route: measures, authenticates, checks the permission, and turns a panic into an answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use engine::admit::{Permission, authenticate};
use futures::FutureExt;

use crate::{
    App,
    auth::{ClientAddress, presented},
    problem::{Kind, Problem},
    standing::Standing,
    surface::Surface,
};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone: health only.
    Open,
    Needs(Permission),
}

/// The access layer of one route.
#[derive(Clone)]
pub struct AccessLayer {
    pub app: App,
    pub access: Access,
    pub surface: Surface,
    pub method: &'static str,
    /// The template, never the path: a path holds ids.
    pub route: &'static str,
}

pub async fn authorize(State(layer): State<AccessLayer>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = match layer.admit(&mut request).await {
        Ok(standing) => {
            let request = match &standing {
                Some(standing) => standing.of_request(request),
                None => request,
            };
            let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
                // The panic's own message may quote a body; the hook has logged where it was.
                layer.surface.refuse(Problem::internal(format_args!("a handler of {} panicked", layer.route)))
            });
            match standing {
                Some(standing) => standing.of_response(response, layer.surface),
                None => response,
            }
        }
        Err(problem) => layer.surface.refuse(problem),
    };
    let labels = [("method", layer.method), ("route", layer.route)];
    metrics::histogram!("tollway_http_request_seconds", &labels).record(began.elapsed().as_secs_f64());
    let status = status_class(response.status().as_u16());
    metrics::counter!("tollway_http_requests_total", "method" => layer.method, "route" => layer.route, "status" => status)
        .increment(1);
    response
}

impl AccessLayer {
    /// The standing that must hold while the request is answered; none for an open route.
    async fn admit(&self, request: &mut Request) -> Result<Option<Standing>, Problem> {
        let Access::Needs(permission) = self.access else { return Ok(None) };
        let from = request.extensions().get::<ClientAddress>().map(|ClientAddress(address)| *address);
        let caller = authenticate(&self.app.engine, presented(request.headers())?, from).await?;
        if !caller.may(permission) {
            return Err(Problem::new(
                Kind::Forbidden,
                format_args!("A key with role {:?} may not {} {}.", caller.role.as_str(), self.method, self.route),
            ));
        }
        request.extensions_mut().insert(Arc::clone(&caller));
        Ok(Some(Standing::new(self.app.clone(), caller, permission)))
    }
}

/// The statuses that dashboards tell apart; others by their class.
fn status_class(status: u16) -> &'static str {
    match status {
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        413 => "413",
        422 => "422",
        429 => "429",
        502 => "502",
        503 => "503",
        504 => "504",
        100..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
