-- Alerts: what people are told of without asking, each once. An alert is a row, made in one transaction with its deliveries, so it is
-- neither lost nor told twice, however many replicas see its cause.

create table alert (
    -- A UUIDv7, so alerts sort by their time.
    alert_id    uuid primary key,
    kind        text not null,
    -- What it is about, as an id that is never given to anything else, and as people call it.
    about       text not null,
    object      text not null,
    team        text,
    -- Percent; 0: the kind has none.
    threshold   integer not null default 0,
    -- The window, or the time, for which it is told once; null: for ever.
    since       timestamptz not null,
    until       timestamptz,
    -- A higher threshold, or another object, of the same moment spoke for it.
    is_silent   boolean not null default false,
    -- Title, text and fields.
    said        jsonb not null,
    raised_at   timestamptz not null,
    unique (kind, about, threshold, since)
);
create index alert_told on alert (alert_id desc) where not is_silent;

-- One for each receiver that hears of it. The address and the secret are in the receiver's configuration, not here.
create table alert_delivery (
    -- The same in each try: by it a receiver tells a repetition.
    delivery_id  uuid primary key,
    alert_id     uuid not null references alert on delete cascade,
    receiver     text not null,
    payload      text not null,
    tries        integer not null default 0,
    next_try_at  timestamptz not null default now(),
    created_at   timestamptz not null default now(),
    delivered_at timestamptz,
    given_up_at  timestamptz,
    last_error   text,
    unique (alert_id, receiver)
) with (fillfactor = 70);
create index alert_delivery_waiting on alert_delivery (receiver, next_try_at)
    where delivered_at is null and given_up_at is null;

-- Jobs that ended with failures, for the alert that says so.
create index job_failed on job (finished_at) where failed > 0;
