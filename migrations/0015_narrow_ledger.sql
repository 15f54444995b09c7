-- Most of a ledger row says the same as the row before it: who called, what for, which deployment, at which prices. That is kept
-- once now, and each row points to it. A row is half as wide, which is half of what a settlement costs. `ledger` is a view of both.

-- What calls have in common. Rows are never changed, and stay: the ledger is kept for good.
create table ledger_context (
    -- Of the content, so that whoever writes it needs to know nothing of the others; two ids for the same content do no harm.
    context_id          uuid primary key,
    attempt_reason      text not null,
    fallback_from       text,
    record_kind         text not null,
    team                text not null,
    environment         text not null,
    feature             text not null,
    cost_center         text,
    key_id              text,
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
    usage_source        text,
    status              text not null,
    http_status         integer,
    error_class         text,
    billable            boolean not null,
    cache_hit           boolean not null,
    price_version       text
);

-- What is a call's own. Tags and customers are among it: they may be others with each call.
create table ledger_entry (
    requested_at        timestamptz not null,
    completed_at        timestamptz not null,
    -- Posting time: what month close goes by. The same for all rows of a COPY, which lets it write many at once.
    recorded_at         timestamptz not null default statement_timestamp(),
    reserved_at         timestamptz not null,
    -- The writing transaction; see ledger_batch.
    batch_id            bigint not null,
    -- UTC date of completed_at, fixed when the row is written.
    usage_date          date not null,
    attempt_no          integer not null,
    is_final            boolean not null,
    attempt_id          uuid not null,
    context_id          uuid not null,
    corrects_attempt_id uuid,
    job_id              bigint,
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
    queue_ms            bigint,
    ttft_ms             bigint,
    latency_ms          bigint,
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
    price_status        text not null,
    request_id          text not null,
    custom_id           text,
    provider_request_id text,
    customer            text,
    tags_json           text,
    primary key (usage_date, attempt_id),
    constraint ledger_unpriced_is_null check ((price_status = 'unpriced') = (contracted_cost is null))
) partition by range (usage_date);

-- Batches ascend as rows are appended, so a few bytes for every 128 pages find those of a segment; a B-tree would cost each row as
-- much as its primary key does.
create index ledger_entry_by_batch on ledger_entry using brin (batch_id) with (pages_per_range = 128, autosummarize = on);
-- A synchronous call is looked up by its request id; a job's requests are found through their results.
create index ledger_entry_by_call on ledger_entry (request_id) where job_id is null;

-- Gives the ids of contexts (an array of objects, one member a column) in their order; those that are new are written.
create function tollway_ledger_contexts(contexts jsonb) returns uuid[] language plpgsql as $$
declare
    ids uuid[];
begin
    with said as materialized (
        select s.n, md5(c::text)::uuid as id, c as context
        from jsonb_array_elements(contexts) with ordinality as s(object, n)
        cross join lateral jsonb_populate_record(null::ledger_context, s.object - 'context_id') as c
    ), written as (
        insert into ledger_context
        select c.*
        from (select distinct on (id) id, context from said
              -- In one order, so that two that write the same ones cannot deadlock.
              where not exists (select from ledger_context k where k.context_id = said.id) order by id) new
        cross join lateral jsonb_populate_record(new.context, jsonb_build_object('context_id', new.id)) as c
        on conflict do nothing
    )
    select array_agg(id order by n) into ids from said;
    return ids;
end $$;

alter table ledger rename to ledger_wide;

do $$
declare
    month date;
begin
    for month in
        select to_date(right(c.relname, 6), 'YYYYMM')
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger_wide'::regclass
    loop
        execute format('create table ledger_entry_p%s partition of ledger_entry for values from (%L) to (%L)',
                       to_char(month, 'YYYYMM'), month, (month + interval '1 month')::date);
    end loop;
end $$;

create temporary table moved on commit drop as
select l.attempt_id, l.usage_date,
       md5(row(null::uuid, attempt_reason, fallback_from, record_kind, team, environment, feature, cost_center, key_id, worker_id,
               provider, deployment, billing_account, provider_project, region, model_requested, model_billed, service_tier,
               processing, lane, usage_source, status, http_status, error_class, billable, cache_hit, price_version)::text)::uuid
           as context_id
from ledger_wide l;

insert into ledger_context
select distinct on (context_id)
       context_id, attempt_reason, fallback_from, record_kind, team, environment, feature, cost_center, key_id, worker_id, provider,
       deployment, billing_account, provider_project, region, model_requested, model_billed, service_tier, processing, lane,
       usage_source, status, http_status, error_class, billable, cache_hit, price_version
from ledger_wide join moved using (usage_date, attempt_id);

insert into ledger_entry
select requested_at, completed_at, recorded_at, reserved_at, batch_id, usage_date, attempt_no, is_final, attempt_id, context_id,
       corrects_attempt_id, job_id, input_uncached, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image,
       output_text, output_reasoning, output_audio, prompt_total, queue_ms, ttft_ms, latency_ms, reserved, cost_input,
       cost_cache_read, cost_cache_write, cost_output, cost_other, list_cost, contracted_cost, cost_if_uncached,
       cost_if_not_batch, price_status, request_id, custom_id, provider_request_id, customer, tags_json
from ledger_wide join moved using (usage_date, attempt_id)
-- As they were appended.
order by batch_id;

drop table ledger_wide;

-- Whole rows, columns as in the lake.
create view ledger as
select e.attempt_id, e.request_id, e.job_id, e.custom_id, e.provider_request_id, e.attempt_no, c.attempt_reason, c.fallback_from,
       e.is_final, c.record_kind, e.corrects_attempt_id, e.requested_at, e.completed_at, e.recorded_at, e.usage_date, e.reserved_at,
       c.team, c.environment, c.feature, e.customer, c.cost_center, c.key_id, e.tags_json, c.worker_id, c.provider, c.deployment,
       c.billing_account, c.provider_project, c.region, c.model_requested, c.model_billed, c.service_tier, c.processing, c.lane,
       e.input_uncached, e.cache_read, e.cache_write_5m, e.cache_write_1h, e.input_audio, e.input_image, e.output_text,
       e.output_reasoning, e.output_audio, e.prompt_total, c.usage_source, e.queue_ms, e.ttft_ms, e.latency_ms, c.status,
       c.http_status, c.error_class, c.billable, c.cache_hit, e.reserved, e.cost_input, e.cost_cache_read, e.cost_cache_write,
       e.cost_output, e.cost_other, e.list_cost, e.contracted_cost, e.cost_if_uncached, e.cost_if_not_batch, c.price_version,
       e.price_status, e.batch_id
from ledger_entry e join ledger_context c using (context_id);

-- Replicas of the version before write whole rows, while they are replaced.
create function tollway_ledger_insert() returns trigger language plpgsql as $$
declare
    -- One row a call: COPY into a view goes row by row.
    ids uuid[] := tollway_ledger_contexts(jsonb_build_array(to_jsonb(new)));
begin
    insert into ledger_entry
    select e.*
    from jsonb_populate_record(null::ledger_entry, to_jsonb(new) || jsonb_build_object(
             'context_id', ids[1], 'recorded_at', coalesce(new.recorded_at, statement_timestamp()))) as e;
    return new;
end $$;
create trigger ledger_insert instead of insert on ledger for each row execute function tollway_ledger_insert();

-- As before, and the ledger's months are those of its entries.
create or replace function tollway_make_partitions(from_day date, days integer) returns integer language plpgsql as $$
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
        if to_regclass(format('ledger_entry_p%s', to_char(day, 'YYYYMM'))) is null then
            execute format('create table ledger_entry_p%s partition of ledger_entry for values from (%L) to (%L)',
                           to_char(day, 'YYYYMM'), date_trunc('month', day)::date,
                           (date_trunc('month', day) + interval '1 month')::date);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
