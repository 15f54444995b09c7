//! What every request passes on its way to a handler, once and in one layer: measure, authenticate, check the permission,
//! and turn a panic into an answer.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use engine::admit::{Permission, authenticate};
use futures::FutureExt;

use crate::{
    app::App,
    auth::presented,
    drain::drained,
    openai::Failure,
    problem::{Kind, Problem},
};

/// Who may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone: health only.
    Open,
    Needs(Permission),
}

/// Which form errors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Native,
    OpenAi,
}

impl Surface {
    pub fn of(path: &str) -> Self {
        if path.starts_with("/v1/") { Self::OpenAi } else { Self::Native }
    }

    pub fn refuse(self, problem: Problem) -> Response {
        match self {
            Self::Native => problem.into_response(),
            Self::OpenAi => Failure(problem).into_response(),
        }
    }
}

/// The door of one route.
#[derive(Clone)]
pub struct Door {
    pub app: App,
    pub access: Access,
    pub surface: Surface,
    pub method: &'static str,
    /// The template, never the path: a path holds ids.
    pub route: &'static str,
}

pub async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut request = drained(request);
    let response = match door.admit(&mut request).await {
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            // The panic's own message may quote a body; the hook has logged where it was.
            door.surface.refuse(Problem::internal(format_args!("a handler of {} panicked", door.route)))
        }),
        Err(problem) => door.surface.refuse(problem),
    };
    let labels = [("method", door.method), ("route", door.route)];
    metrics::histogram!("tollway_http_request_seconds", &labels).record(began.elapsed().as_secs_f64());
    let status = status_class(response.status().as_u16());
    metrics::counter!("tollway_http_requests_total", "method" => door.method, "route" => door.route, "status" => status)
        .increment(1);
    response
}

impl Door {
    async fn admit(&self, request: &mut Request) -> Result<(), Problem> {
        let Access::Needs(permission) = self.access else { return Ok(()) };
        let caller = authenticate(&self.app.engine, presented(request.headers())?).await?;
        if !caller.may(permission) {
            return Err(Problem::new(
                Kind::Forbidden,
                format_args!("A key with role {:?} may not {} {}.", caller.role.as_str(), self.method, self.route),
            ));
        }
        request.extensions_mut().insert(caller);
        Ok(())
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
