//! Reservations and in-flight counts are 0 when nothing runs.

use std::time::Duration;

use crate::{database::Database, polling::until};

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that is held while requests run, by what holds it.
const HELD: [(&str, &str); 10] = [
    ("flows", "select count(*) from flow"),
    ("leases", "select count(*) from lease"),
    ("retries", "select count(*) from retry"),
    ("intents", "select count(*) from intent"),
    ("uploads", "select count(*) from job where state = 'uploading'"),
    ("dead workers", "select count(*) from worker where lease_until < clock_timestamp()"),
    (
        "slots in use",
        "select coalesce(sum(u.used), 0)::bigint from limit_use u join limit_rule r using (limit_id) where r.kind = 'slots'",
    ),
    (
        "micro-dollars or tokens reserved",
        "select ceil(coalesce(sum(u.reserved), 0) / case when b.document ? 'limit_usd' then 1e6 else 1 end)::bigint
         from budget_use u join budget b using (budget_id) join worker w using (worker_id)
         where b.disabled_at is null group by b.document ? 'limit_usd'
         union all select 0 order by 1 desc limit 1",
    ),
    (
        "of it by what guards let jobs spend",
        "select ceil(coalesce(sum(u.reserved + u.free), 0))::bigint
         from budget_use u join budget_part p on p.part_id = u.budget_id join worker w using (worker_id)",
    ),
    (
        "holds of jobs that run",
        "select count(*) from job_hold join job using (job_id) where lifted_until is null and state in ('queued', 'running')",
    ),
];

pub async fn wait(db: &Database) {
    for (what, count) in HELD {
        let mut last = None;
        let what = format!("0 {what} when idle");
        until(&what, IDLE_TIMEOUT, async || {
            let n = db.try_number(count).await.ok()?;
            if last.replace(n) != Some(n) && n > 0 {
                eprintln!("{what}: {n} now");
            }
            (n == 0).then_some(())
        })
        .await;
    }
}
