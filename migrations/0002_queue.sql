-- The queue. A job is an append-only list of items plus cursors: waiting work costs one flow row, not a row per request.
--
-- Hot tables (flow, share, lease, retry, job_tally) have no foreign keys, no index on a column that changes often, and a
-- fill factor that leaves room for HOT updates.

-- One process that holds leases, grants and intents. Ids are new for each process. All times are this database's.
create table worker (
    worker_id     bigint primary key,
    host          text not null,
    roles         text[] not null,
    started_at    timestamptz not null default now(),
    -- What it holds is returned once this has passed; it stops starting calls before.
    lease_until   timestamptz not null
) with (fillfactor = 50);

create table job (
    job_id        bigint primary key,
    team_id       bigint not null references team,
    key_id        text not null,
    lane          text not null,
    name          text,
    tags          jsonb not null default '{}',
    priority      smallint not null default 0 check (priority between -100 and 100),
    max_attempts  smallint not null default 5 check (max_attempts between 1 and 100),
    state         text not null check (state in
                    ('uploading', 'queued', 'running', 'paused', 'cancelling', 'cancelled', 'completed', 'expired')),
    -- The process that is taking the upload; when it dies, the job and its idempotency key go.
    upload_worker bigint,
    accepted      bigint not null default 0,
    -- Counted in the transaction that ended them; finals by result are in job_tally.
    cancelled     bigint not null default 0,
    expired       bigint not null default 0,
    -- Items of this job are found by these after its flows are gone.
    flow_ids      bigint[] not null default '{}',
    retry_of      bigint,
    webhook_url   text,
    created_at    timestamptz not null default now(),
    start_at      timestamptz,
    deadline_at   timestamptz,
    started_at    timestamptz,
    finished_at   timestamptz,
    -- When bodies and results may be dropped.
    purge_at      timestamptz,
    purged_at     timestamptz,
    constraint job_terminal_has_end check ((state in ('cancelled', 'completed', 'expired')) = (finished_at is not null)),
    constraint job_uploading_has_worker check ((state = 'uploading') = (upload_worker is not null))
) with (fillfactor = 80);
create index job_by_team on job (team_id, job_id desc);
create index job_unfinished on job (job_id) where finished_at is null;

-- One submission a key; the fingerprint tells a repetition from a mistake.
create table idempotency (
    team_id       bigint not null,
    key           text not null check (length(key) between 1 and 255),
    job_id        bigint not null,
    -- SHA-256 of the decompressed body and the parameters; null while the first upload is under way.
    fingerprint   bytea,
    created_at    timestamptz not null default now(),
    primary key (team_id, key)
);
create index idempotency_job on idempotency (job_id);

-- The requests of one job that share a route; what a claim chooses among. Exists only while there is work: finished rows
-- left here slowed the claim 40-fold.
create table flow (
    flow_id        bigint primary key,
    job_id         bigint not null,
    team_id        bigint not null,
    lane           text not null,
    route          text not null,
    endpoint       smallint not null,
    key_id         text not null,
    priority       smallint not null,
    state          text not null default 'ready' check (state in ('ready', 'paused', 'ended')),
    -- Items [next_pos, tail_pos) were never claimed.
    next_pos       integer not null default 0,
    tail_pos       integer not null check (tail_pos >= next_pos),
    -- The largest item, in estimated tokens: the unit by which rate limits are granted to it.
    max_in         integer not null,
    max_out        integer,
    max_attempts   smallint not null,
    start_at       timestamptz,
    deadline_at    timestamptz,
    -- Not looked at before this; infinity while it only waits for its leases and retries.
    blocked_until  timestamptz not null default '-infinity',
    blocked_reason text,
    served_at      timestamptz not null default '-infinity'
) with (fillfactor = 70);
create index flow_by_share on flow (lane, team_id, priority desc, served_at, flow_id);
create index flow_by_job on flow (job_id);
create index flow_by_deadline on flow (deadline_at) where deadline_at is not null;

-- A team's place in a lane. Stays when the work is done: one row for each team and lane that ever had any.
create table share (
    lane           text not null,
    team_id        bigint not null,
    weight         integer not null default 1,
    served_at      timestamptz not null default '-infinity',
    blocked_until  timestamptz not null default 'infinity',
    primary key (lane, team_id)
) with (fillfactor = 50);

-- Bodies. Partitioned by the time inside flow_id; never updated.
create table item (
    flow_id        bigint not null,
    pos            integer not null,
    -- Counted from 1 in the whole job.
    line           integer not null,
    est_in         integer not null,
    max_out        integer,
    custom_id      text not null,
    body           text not null,
    primary key (flow_id, pos)
) partition by range (flow_id);

-- One final result per request. Partitioned by the time inside job_id; never updated.
create table result (
    job_id         bigint not null,
    line           integer not null,
    custom_id      text not null,
    ok             boolean not null,
    attempts       integer not null,
    status_code    integer,
    -- The provider's own id of the call.
    request_id     text,
    deployment     text,
    endpoint       smallint not null,
    -- The provider's answer, or its error object; embeddings without their numbers.
    body           text,
    -- Those numbers: little-endian f32, as many of dims as the answer has embeddings.
    vectors        bytea,
    dims           integer,
    base64         boolean not null default false,
    error_class    text,
    error_message  text,
    finished_at    timestamptz not null default now(),
    primary key (job_id, line)
) partition by range (job_id);

-- A claimed request, held by a worker. The epoch fences: whoever completes must name the one it was claimed with.
create table lease (
    flow_id        bigint not null,
    pos            integer not null,
    epoch          integer not null,
    worker_id      bigint not null,
    -- Provider calls of this request so far, the one under way included.
    attempt_no     integer not null,
    attempt_id     uuid not null,
    deployment     text not null,
    -- Failed tries that count against the job's max_attempts.
    failures       smallint not null,
    claimed_at     timestamptz not null default now(),
    -- Set by the commit that precedes the call; null: nothing was sent.
    started_at     timestamptz,
    primary key (flow_id, pos)
) with (fillfactor = 60);
create index lease_by_worker on lease (worker_id);

-- A request that waits for its next try. Holds no slot.
create table retry (
    flow_id        bigint not null,
    pos            integer not null,
    epoch          integer not null,
    attempt_no     integer not null,
    failures       smallint not null,
    due_at         timestamptz not null,
    last_error     text,
    last_deployment text,
    primary key (flow_id, pos)
);
create index retry_due on retry (due_at);
create index retry_of_flow on retry (flow_id, due_at);

-- Finals of a job, counted by each worker in the transaction that stored them: one writer a row, so no row is contended.
create table job_tally (
    job_id         bigint not null,
    worker_id      bigint not null,
    succeeded      bigint not null default 0,
    failed         bigint not null default 0,
    attempts       bigint not null default 0,
    unpriced       bigint not null default 0,
    cost_pico      numeric(38,0) not null default 0,
    primary key (job_id, worker_id)
) with (fillfactor = 50);

-- Partitions for [from_day, from_day + days), and the ledger's months that these days touch.
create function tollway_make_partitions(from_day date, days integer) returns integer language plpgsql as $$
declare
    day date;
    low bigint;
    high bigint;
    made integer := 0;
    base text;
begin
    -- Replicas that start together must not race for the same name.
    perform pg_advisory_xact_lock(hashtext('tollway_make_partitions'));
    for day in select from_day + n from generate_series(0, days - 1) n loop
        -- Ids are milliseconds << 22.
        low  := (extract(epoch from day::timestamp at time zone 'UTC') * 1000)::bigint << 22;
        high := (extract(epoch from (day + 1)::timestamp at time zone 'UTC') * 1000)::bigint << 22;
        foreach base in array array['item', 'result'] loop
            if to_regclass(format('%s_p%s', base, to_char(day, 'YYYYMMDD'))) is null then
                execute format('create table %s_p%s partition of %s for values from (%s) to (%s)',
                               base, to_char(day, 'YYYYMMDD'), base, low, high);
                if base = 'result' then
                    -- Floats do not compress: do not try, and read them without inflating.
                    execute format('alter table %s_p%s alter column vectors set storage external',
                                   base, to_char(day, 'YYYYMMDD'));
                end if;
                made := made + 1;
            end if;
        end loop;
        if to_regclass('ledger') is not null
           and to_regclass(format('ledger_p%s', to_char(day, 'YYYYMM'))) is null then
            execute format('create table ledger_p%s partition of ledger for values from (%L) to (%L)',
                           to_char(day, 'YYYYMM'), date_trunc('month', day)::date,
                           (date_trunc('month', day) + interval '1 month')::date);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
