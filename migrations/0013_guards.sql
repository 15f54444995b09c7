-- Guards: budgets that are not only to be kept, but not to be burnt. And jobs that wait for somebody's word.

-- A limit that comes with something else: what a budget's guard lets one job, feature or team spend in a time that rolls, and what a
-- job may cost at all. Its id is a budget's too, so what is granted and spent of it stands in budget_use beside all others.
create table budget_part (
    part_id     bigint primary key default nextval('budget_budget_id_seq'),
    -- Whose guard; 0: it is a job's own limit.
    budget_id   bigint not null,
    -- 'job 123', 'feature chat', 'team search'.
    subject     text not null,
    job_id      bigint,
    -- How long it looks back, in seconds: with another length it is another part. 0: for good.
    per_s       bigint not null check (per_s >= 0),
    -- Of a job's own limit; a guard's follows from its budget.
    cap         numeric(38,0) check (cap > 0),
    created_at  timestamptz not null default now(),
    unique (budget_id, subject, per_s)
);

-- The most that the job may cost, in pico-USD; null: nothing was said of it.
alter table job add column max_cost numeric(38,0);

-- What keeps a job paused. It goes on when nothing does.
create table job_hold (
    job_id       bigint not null,
    -- 'paused': somebody did. In the alphabet's order the first is what the job waits for.
    reason       text not null,
    -- Whose guard; 0: none's.
    part_id      bigint not null default 0,
    detail       text not null default '',
    -- The most that its next request can cost.
    needs        numeric(38,0) not null default 0,
    held_at      timestamptz not null,
    -- Somebody approved it: it holds no more, nor again before this.
    lifted_until timestamptz,
    primary key (job_id, reason, part_id)
);
create index job_hold_of_guards on job_hold (part_id) where reason = 'guard' and lifted_until is null;

-- As before, and a flow that is paused says by what.
create or replace view flow_wait as
select w.*,
       case when state = 'paused' then coalesce((
                select h.reason from job_hold h where h.job_id = w.job_id and h.lifted_until is null order by h.reason limit 1
            ), 'paused')
            when state = 'held' then 'after'
            when start_at > now() then 'scheduled'
            when waiting = 0 and retry_at > now() then 'retry'
            when blocked_reason is not null then split_part(blocked_reason, ' ', 1)
            when exists (select 1 from worker where 'worker' = any (roles) and lease_until > now()) then 'no_slot'
            else 'no_worker'
       end as reason,
       case when state = 'paused' then (
                select nullif(h.detail, '') from job_hold h
                where h.job_id = w.job_id and h.lifted_until is null order by h.reason limit 1
            )
            when state = 'held' or start_at > now() or waiting = 0 and retry_at > now() then null
            else nullif(substr(blocked_reason, strpos(blocked_reason || ' ', ' ') + 1), '')
       end as detail,
       case when state in ('paused', 'held') then null
            when start_at > now() then start_at
            when waiting = 0 and retry_at > now() then retry_at
            when blocked_until > now() and blocked_until < 'infinity' then blocked_until
       end as until
from (
    select flow_id, job_id, team_id, lane, priority, state, start_at, blocked_until, blocked_reason, served_at,
           tail_pos - next_pos as waiting,
           -- The first that is due; looked for only where nothing else is left.
           case when next_pos = tail_pos then (select min(due_at) from retry r where r.flow_id = f.flow_id) end as retry_at
    from flow f
    where state <> 'ended'
) w
where waiting > 0 or retry_at is not null;
