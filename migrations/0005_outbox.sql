-- Webhooks on their way. Inserted in the transaction that ended the job, delivered at least once.
create table webhook_outbox (
    webhook_id    uuid primary key,
    job_id        bigint not null,
    team_id       bigint not null,
    url           text not null,
    payload       text not null,
    tries         integer not null default 0,
    next_try_at   timestamptz not null default now(),
    created_at    timestamptz not null default now(),
    delivered_at  timestamptz,
    given_up_at   timestamptz,
    last_error    text
);
create index webhook_waiting on webhook_outbox (next_try_at) where delivered_at is null and given_up_at is null;
