-- Lanes and limits that change while everything runs, quotas of what waits, and why it waits.

-- The lanes that somebody declared, the file's and the API's. The active configuration holds their rules too, so that
-- replicas follow one document; this says whose they are.
create table lane_rule (
    lane        text primary key check (lane ~ '^[a-z0-9_-]{1,32}$'),
    -- As in the configuration. Null: one of the lanes that exist by default was removed.
    rule        jsonb,
    managed_by  text not null check (managed_by in ('api', 'file')),
    changed_at  timestamptz not null default now(),
    -- The key that changed it, or the host whose file declares it.
    changed_by  text not null
);

-- pending_requests, pending_bytes: quotas of a team's jobs that have not ended, checked while an upload comes in.
alter table limit_rule drop constraint limit_rule_kind_check;
alter table limit_rule add constraint limit_rule_kind_check
    check (kind in ('slots', 'rpm', 'tpm', 'money', 'pending_requests', 'pending_bytes'));

-- Bytes of its items, counted like job.accepted.
alter table job add column bytes bigint not null default 0;
create index job_unfinished_by_team on job (team_id) where finished_at is null;

-- What an upload under way has reserved of its team's quotas, ahead of each chunk. Goes when its job begins to count itself,
-- or with the job.
create table upload_hold (
    job_id      bigint primary key references job on delete cascade,
    team_id     bigint not null,
    requests    bigint not null,
    bytes       bigint not null
) with (fillfactor = 50);
create index upload_hold_by_team on upload_hold (team_id);

-- What a team's unfinished jobs held when they were last counted, and all that was reserved since. Never subtracted from: when
-- a quota seems full, it is counted anew.
create table team_usage (
    team_id     bigint primary key,
    requests    bigint not null default 0,
    bytes       bigint not null default 0,
    counted_at  timestamptz not null default '-infinity',
    count_took  interval not null default '0'
) with (fillfactor = 50);

-- Requests of jobs that it runs at once; 0 for one without the role worker.
alter table worker add column slots integer not null default 0;

-- Flows with requests that wait, and what for: a word, more about it, and until when at the earliest.
create view flow_wait as
select w.*,
       case when state = 'paused' then 'paused'
            when start_at > now() then 'scheduled'
            when waiting = 0 and retry_at > now() then 'retry'
            when blocked_reason is not null then split_part(blocked_reason, ' ', 1)
            when exists (select 1 from worker where 'worker' = any (roles) and lease_until > now()) then 'no_slot'
            else 'no_worker'
       end as reason,
       case when state = 'paused' or start_at > now() or waiting = 0 and retry_at > now() then null
            else nullif(substr(blocked_reason, strpos(blocked_reason || ' ', ' ') + 1), '')
       end as detail,
       case when state = 'paused' then null
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
