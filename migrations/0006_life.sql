-- A job's life after its submission: tried again as a new job, begun after another one, and a line for whatever was done to it.

-- Where the requests of each of flow_ids went, for when the flows are gone: a retry needs it. Null: made by an earlier version.
alter table job
    add column routes    text[],
    add column endpoints smallint[],
    -- Not begun before that job has ended; with 'success', cancelled when it did not end clean.
    add column after_job bigint,
    add column after_on  text check (after_on in ('success', 'end')),
    add constraint job_after_is_whole check ((after_job is null) = (after_on is null));
create index job_followers on job (after_job) where after_job is not null;

-- 'held': it waits for the job that its own comes after. A state, so that nothing that wakes sleepers can start it.
alter table flow drop constraint flow_state_check,
    add constraint flow_state_check check (state in ('ready', 'held', 'paused', 'ended'));
create index flow_held on flow (job_id) where state = 'held';

-- Failures are few among results, and looked for often: by readers, groups of dead letters, and retries.
create index result_failed on result (job_id, line) where not ok;

-- Which request of a retry is which line of the job it retries. Goes with that job's results.
create table retried (
    of_job        bigint not null,
    of_line       integer not null,
    job_id        bigint not null,
    line          integer not null,
    primary key (of_job, of_line, job_id)
);

-- Who did what to which job, and when: a line in the transaction of each change. Never holds what a prompt held.
create table audit (
    audit_id      bigint generated always as identity primary key,
    at            timestamptz not null default clock_timestamp(),
    -- Whose job it is. The key may be another team's: an operator's, an admin's.
    team_id       bigint not null,
    job_id        bigint not null,
    -- Null: Tollway itself.
    key_id        text,
    action        text not null,
    details       jsonb not null default '{}'
);
create index audit_by_job on audit (job_id, audit_id);

-- Jobs that are submitted again and again. Their lines stay here, compressed; partitions of items are dropped.
create table schedule (
    schedule_id   bigint primary key,
    team_id       bigint not null references team,
    key_id        text not null,
    name          text not null check (length(name) between 1 and 200),
    cron          text not null,
    time_zone     text not null,
    -- A tick is passed over while the job of the tick before has not ended.
    skip_if_running boolean not null,
    params        jsonb not null,
    -- gzip.
    lines         bytea not null,
    requests      bigint not null,
    -- Null: it will not fire again.
    next_at       timestamptz,
    last_tick_at  timestamptz,
    last_job      bigint,
    -- Why the last tick made no job.
    last_error    text,
    created_at    timestamptz not null default now(),
    unique (team_id, name)
);
create index schedule_due on schedule (next_at) where next_at is not null;
