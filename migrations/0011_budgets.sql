-- Budgets: how much may be spent, and by whom it is spent or held. The limit is kept by grants, as every other (see limit_use):
-- a replica is granted a part, and reserves and spends it by itself. What was granted stays granted until it is given back, so
-- nothing that a process forgets, or dies with, can be spent a second time.

-- Raised by every change, under an exclusive lock that each transaction which writes to the ledger takes shared: so none of those
-- misses a budget that was there before it.
create sequence budget_revision;

create table budget (
    budget_id   bigint generated always as identity primary key,
    name        text not null check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    -- As it was declared: scope, limit, window, policy, thresholds.
    document    jsonb not null,
    -- Pico-USD or tokens.
    cap         numeric(38,0) not null check (cap > 0),
    managed_by  text not null check (managed_by in ('api', 'file')),
    -- Of its last change, and of its first: nothing is granted before all replicas follow that.
    revision    bigint not null,
    since       bigint not null,
    -- When the ledger's spend of the window under way was added to what was counted since; nothing is granted before.
    counted_at  timestamptz,
    changed_at  timestamptz not null default now(),
    -- The key that changed it, or the host whose file declares it.
    changed_by  text not null,
    -- A change of what it counts makes another budget of the same name.
    disabled_at timestamptz
) with (fillfactor = 50);
create unique index budget_name on budget (name) where disabled_at is null;
create index budget_by_revision on budget (revision);

-- What one replica may spend in one cell of a budget's window: the window itself, or a step of one that rolls. Worker 0 stands for
-- the ledger as it was when the budget came.
create table budget_use (
    budget_id   bigint not null,
    cell        timestamptz not null,
    worker_id   bigint not null,
    -- All that it may spend in this cell, spent parts included; written by its granter alone.
    granted     numeric(38,0) not null default 0,
    -- The sum of its ledger rows, written in the transactions that insert them.
    spent       numeric(38,0) not null default 0,
    -- Of that, what its calls under way hold, and what nothing holds, as its granter knew last. Whatever of a grant is neither, and
    -- not spent, is unproven: it was held for calls of which nobody knows what they cost.
    reserved    numeric(38,0) not null default 0,
    free        numeric(38,0) not null default 0,
    primary key (budget_id, cell, worker_id)
) with (fillfactor = 50);
create index budget_use_by_worker on budget_use (worker_id);

-- The revision in force, for a transaction that writes to the ledger: none comes after it before that has ended. In one call, for
-- a statement of its own sees what was committed while the one before it waited for the lock.
create function tollway_budget_revision() returns bigint language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock_shared(hashtext('tollway_budget'));
    return (select coalesce(max(revision), 0) from budget);
end $$;

-- The revision whose budgets it follows; null: it knows of no budgets, or makes no calls yet.
alter table worker add column budgets bigint;
