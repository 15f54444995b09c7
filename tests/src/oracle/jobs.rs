//! accepted = succeeded + failed + cancelled + expired + pending; one final result and one final ledger row per request.

use sqlx::FromRow;

use crate::database::Database;

/// Each side counted for itself.
#[derive(Debug, FromRow)]
struct Counted {
    state: String,
    is_purged: bool,
    accepted: i64,
    cancelled: i64,
    expired: i64,
    succeeded: i64,
    failed: i64,
    pending: i64,
    attempts: i64,
    cost_pico: String,
    results: i64,
    good_results: i64,
    ledger_rows: i64,
    ledger_finals: i64,
    ledger_requests: i64,
    ledger_pico: String,
}

const COUNT: &str = "
select j.state, j.purged_at is not null as is_purged, j.accepted, j.cancelled, j.expired,
       t.succeeded, t.failed, t.attempts, t.cost_pico, p.pending, r.results, r.good_results,
       l.ledger_rows, l.ledger_finals, l.ledger_requests, l.ledger_pico
from job j
cross join lateral (
    select (j.succeeded + coalesce(sum(n.succeeded), 0))::bigint as succeeded, (j.failed + coalesce(sum(n.failed), 0))::bigint as failed,
           (j.attempts + coalesce(sum(n.attempts), 0))::bigint as attempts, (j.cost_pico + coalesce(sum(n.cost_pico), 0))::text as cost_pico
    from job_tally n where n.job_id = j.job_id
) t
cross join lateral (
    select coalesce(sum(f.tail_pos - f.next_pos + (select count(*) from lease where flow_id = f.flow_id)
                        + (select count(*) from retry where flow_id = f.flow_id)), 0)::bigint as pending
    from flow f where f.job_id = j.job_id
) p
cross join lateral (
    select count(*) as results, count(*) filter (where ok) as good_results from result where job_id = j.job_id
) r
cross join lateral (
    select count(*) as ledger_rows, count(*) filter (where is_final) as ledger_finals,
           count(distinct request_id) filter (where is_final) as ledger_requests,
           coalesce(sum(contracted_cost), 0)::text as ledger_pico
    from ledger where job_id = j.job_id
) l
where j.state <> 'uploading'";

pub async fn check(db: &Database) {
    for job in db.rows::<Counted>(COUNT).await {
        check_job(&job);
    }
}

fn check_job(job: &Counted) {
    let ended = job.succeeded + job.failed + job.cancelled + job.expired;
    assert_eq!(
        job.accepted,
        ended + job.pending,
        "accepted = succeeded + failed + cancelled + expired + pending: {job:?}"
    );
    let is_terminal = ["completed", "cancelled", "expired"].contains(&job.state.as_str());
    assert!(is_terminal == (job.pending == 0) || job.state == "paused", "a job ends with its last request: {job:?}");
    if !job.is_purged {
        assert_eq!(job.results, job.succeeded + job.failed, "one result per final: {job:?}");
        assert_eq!(job.good_results, job.succeeded, "{job:?}");
    }
    let finals = job.succeeded + job.failed;
    assert_eq!((job.ledger_finals, job.ledger_requests), (finals, finals), "one final ledger row per final: {job:?}");
    assert_eq!(job.ledger_rows, job.attempts, "the tally counts each row: {job:?}");
    assert_eq!(job.ledger_pico, job.cost_pico, "the job's cost is the sum of its rows: {job:?}");
}
