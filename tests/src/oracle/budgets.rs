//! Budgets hold: what was granted and spent of each window stays within its limit, and what was counted is what the ledger says.

use sqlx::FromRow;

use crate::database::Database;

#[derive(Debug, FromRow)]
#[expect(dead_code, reason = "shown when it fails")]
struct Overdrawn {
    name: String,
    cap: String,
    taken: String,
}

/// Hard ones, whose limit was never lowered below what was spent.
const OVERDRAWN: &str = "
select b.name, b.cap::text as cap, t.taken::text as taken
from budget b
cross join lateral (
    select cell, sum(greatest(granted, spent)) as taken from budget_use where budget_id = b.budget_id group by cell
) t
where b.disabled_at is null and coalesce(b.document->>'policy', 'reject') <> 'alert' and b.document->>'soft' is null
  and t.taken > b.cap";

/// Workers that came after a budget was declared: all that they booked is counted by the same transactions.
const MISCOUNTED: &str = "
select count(*) from (
    select u.worker_id, sum(u.spent) as counted,
           (select coalesce(sum(contracted_cost), 0) from ledger l where l.worker_id = u.worker_id) as booked
    from budget_use u join budget b using (budget_id)
    where b.disabled_at is null and u.worker_id > 0 and b.document ? 'limit_usd' and not b.document ? 'scope'
      and (select min(recorded_at) from ledger l where l.worker_id = u.worker_id) > b.changed_at
    group by b.budget_id, u.worker_id
) s where counted <> booked";

/// Jobs under a guard that was there before them: what is counted of their parts is what the ledger has of them.
const MISCOUNTED_PARTS: &str = "
select count(*) from (
    select (select sum(spent) from budget_use u where u.budget_id = p.part_id) as counted,
           (select sum(contracted_cost) from ledger l where l.job_id = p.job_id) as booked
    from budget_part p join budget b using (budget_id)
    where b.disabled_at is null and b.document ? 'limit_usd' and coalesce(b.document->'scope', '{}') - 'team' = '{}'
      and (select min(recorded_at) from ledger l where l.job_id = p.job_id) > greatest(b.changed_at, p.created_at)
) s where counted <> booked";

pub async fn check(db: &Database) {
    let overdrawn: Vec<Overdrawn> = db.rows(OVERDRAWN).await;
    assert!(overdrawn.is_empty(), "{overdrawn:#?}");
    assert_eq!(db.number(MISCOUNTED).await, 0, "replicas whose spend is not what the ledger has of them");
    assert_eq!(db.number(MISCOUNTED_PARTS).await, 0, "jobs whose guarded spend is not what the ledger has of them");
}
