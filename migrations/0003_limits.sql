-- One mechanism for every cap: a limit, and the part of it that each replica holds as a grant and spends locally.

create table limit_rule (
    limit_id     bigint generated always as identity primary key,
    -- 'team:ID', 'lane:LANE:team:ID', 'key:ID', 'deployment:NAME'.
    scope        text not null,
    -- slots: calls at once. rpm, tpm: requests and tokens in any minute. money: pico-USD in a window.
    kind         text not null check (kind in ('slots', 'rpm', 'tpm', 'money')),
    cap          numeric(38,0) not null check (cap >= 0),
    managed_by   text not null default 'api' check (managed_by in ('api', 'file')),
    -- Rate limits are a bucket that fills continuously: what was in it, and when that was so.
    level        double precision not null default 0,
    level_at     timestamptz not null default '-infinity',
    disabled_at  timestamptz,
    unique (scope, kind)
) with (fillfactor = 50);

-- A replica's part of a limit. Only the replica itself writes its rows; a dead one's slots go with its worker row.
create table limit_use (
    limit_id     bigint not null,
    worker_id    bigint not null,
    granted      bigint not null default 0,
    used         bigint not null default 0,
    -- What it could use now, held part included: by this, the others make room for it.
    wanted       bigint not null default 0,
    primary key (limit_id, worker_id)
) with (fillfactor = 50);
create index limit_use_by_worker on limit_use (worker_id);
