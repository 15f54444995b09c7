-- The ledger: append-only, one row per attempt, inserted in the transaction that stores the result.
-- Money is pico-USD; a call's fits a bigint. Null cost means unpriced, null tokens mean not reported.

create table ledger (
    attempt_id          uuid not null,
    request_id          text not null,
    job_id              bigint,
    custom_id           text,
    provider_request_id text,
    attempt_no          integer not null,
    attempt_reason      text not null,
    fallback_from       text,
    is_final            boolean not null,
    record_kind         text not null,
    corrects_attempt_id uuid,
    requested_at        timestamptz not null,
    completed_at        timestamptz not null,
    -- Posting time: what month close goes by.
    recorded_at         timestamptz not null default clock_timestamp(),
    -- UTC date of completed_at, fixed when the row is written.
    usage_date          date not null,
    reserved_at         timestamptz not null,
    team                text not null,
    environment         text not null,
    feature             text not null,
    customer            text,
    cost_center         text,
    key_id              text,
    tags_json           text,
    worker_id           bigint not null,
    provider            text not null,
    deployment          text not null,
    billing_account     text,
    provider_project    text,
    region              text,
    model_requested     text not null,
    model_billed        text not null,
    service_tier        text,
    processing          text not null,
    lane                text not null,
    input_uncached      bigint,
    cache_read          bigint,
    cache_write_5m      bigint,
    cache_write_1h      bigint,
    input_audio         bigint,
    input_image         bigint,
    output_text         bigint,
    output_reasoning    bigint,
    output_audio        bigint,
    prompt_total        bigint,
    usage_source        text,
    queue_ms            bigint,
    ttft_ms             bigint,
    latency_ms          bigint,
    status              text not null,
    http_status         integer,
    error_class         text,
    billable            boolean not null,
    cache_hit           boolean not null,
    reserved            bigint,
    cost_input          bigint,
    cost_cache_read     bigint,
    cost_cache_write    bigint,
    cost_output         bigint,
    cost_other          bigint,
    list_cost           bigint,
    contracted_cost     bigint,
    cost_if_uncached    bigint,
    cost_if_not_batch   bigint,
    price_version       text,
    price_status        text not null,
    -- The writing transaction; see ledger_batch.
    batch_id            bigint not null,
    primary key (usage_date, attempt_id),
    constraint ledger_unpriced_is_null check ((price_status = 'unpriced') = (contracted_cost is null))
) partition by range (usage_date);
create index ledger_by_batch on ledger (batch_id);
-- A synchronous call is looked up by its request id; a job's requests are found through their results.
create index ledger_by_call on ledger (request_id) where job_id is null;

-- One row for each writing transaction and day. The exporter freezes batches, never rows: sequences commit out of order,
-- so "everything above a watermark" would lose some.
create table ledger_batch (
    batch_id     bigint not null,
    usage_date   date not null,
    rows         integer not null,
    segment_id   bigint,
    primary key (batch_id, usage_date)
) with (fillfactor = 70);
create index ledger_batch_waiting on ledger_batch (usage_date) where segment_id is null;
create index ledger_batch_of_segment on ledger_batch (segment_id) where segment_id is not null;
create sequence ledger_batch_seq;

-- A file of the lake: frozen batches of one day. Its name follows from its id, its rows from its batches.
create table segment (
    segment_id   bigint generated always as identity primary key,
    usage_date   date not null,
    rows         bigint not null,
    -- SHA-256 of the canonical rows, set when the file was written.
    content_hash text,
    frozen_at    timestamptz not null default now(),
    published_at timestamptz
);
create index segment_unpublished on segment (segment_id) where published_at is null;

-- What a synchronous call is about to cost, durable before the first byte reaches the caller. Ends as one ledger row.
create table intent (
    attempt_id   uuid primary key,
    worker_id    bigint not null,
    -- The ledger row as it stands if nobody ever learns how the call ended.
    pessimist    jsonb not null,
    created_at   timestamptz not null default now()
) with (fillfactor = 70);
create index intent_by_worker on intent (worker_id);

select tollway_make_partitions((now() at time zone 'UTC')::date - 1, 9);
