//! Cells of windows that are over.

use chrono::TimeDelta;
use domain::budget::Window;

use crate::AdmissionControl;

/// Rows that are removed at once.
const AT_ONCE: i64 = 5_000;

/// Drops what was counted in windows before the last one; calls of that may still come in.
pub async fn sweep(control: &AdmissionControl) -> store::Result<()> {
    let now = control.clock.now();
    let mut conn = control.pools.work.acquire().await?;
    for row in store::budget::active(&mut conn).await? {
        let (window, zone) = (row.budget.window, row.budget.time_zone);
        if window != Window::Total {
            let last = window.span(zone, window.span(zone, now).since - TimeDelta::microseconds(1));
            store::budget::forget(&mut conn, row.budget_id, last.since).await?;
        }
    }
    while store::budget::forget_sub_budgets(&mut conn, now, AT_ONCE).await? >= AT_ONCE as u64 {}
    Ok(())
}
