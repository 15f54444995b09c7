//! Cells of windows that are over.

use chrono::TimeDelta;
use domain::budget::Window;

use super::guard;
use crate::Engine;

/// Drops what was counted in windows before the last one; calls of that may still come in.
pub async fn sweep(engine: &Engine) -> store::Result<()> {
    let now = engine.clock.now();
    let mut conn = engine.pools.work.acquire().await?;
    for row in store::budget::active(&mut conn).await? {
        let (window, zone) = (row.budget.window, row.budget.time_zone);
        if window != Window::Total {
            let last = window.span(zone, window.span(zone, now).since - TimeDelta::microseconds(1));
            store::budget::forget(&mut conn, row.budget_id, last.since).await?;
        }
    }
    drop(conn);
    guard::sweep(engine).await
}
