//! `/livez`: the process answers. `/readyz`: it can serve, that is, its database answers and has the schema.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{App, problem::Problem};

/// How long an answer is reused: the route is open, and must not be a way to load the database.
const ANSWER_REUSED_FOR: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), &'static str>)>>);

pub async fn livez() -> &'static str {
    "ok\n"
}

pub async fn readyz(State(app): State<App>) -> Response {
    if app.leaving.is_cancelled() {
        return Problem::unavailable("The process is shutting down.").into_response();
    }
    match app.readiness.ask(&app).await {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(reason) => Problem::unavailable(reason).into_response(),
    }
}

impl Readiness {
    async fn ask(&self, app: &App) -> Result<(), &'static str> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < ANSWER_REUSED_FOR
        {
            return answer;
        }
        let ping = store::connect::is_migrated(&app.engine.pools.api);
        let answer = match tokio::time::timeout(PING_TIMEOUT, ping).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("The database lacks migrations that this version needs: run `tollway migrate`."),
            Ok(Err(_)) | Err(_) => Err("The database is out of reach."),
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}
