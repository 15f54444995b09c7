-- Who may call, and what the operator declared.

create table team (
    team_id     bigint generated always as identity primary key,
    name        text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    -- Share of a lane beside other teams.
    weight      integer not null default 1 check (weight between 1 and 1000),
    -- 'file' rows follow tollway.toml; the API refuses to edit them.
    managed_by  text not null default 'api' check (managed_by in ('api', 'file')),
    created_at  timestamptz not null default now(),
    disabled_at timestamptz
);

create table api_key (
    -- The public part of the key; names it in logs, lists and the ledger.
    key_id      text primary key check (length(key_id) = 12),
    team_id     bigint not null references team,
    name        text not null check (length(name) between 1 and 128),
    role        text not null check (role in ('submit', 'read', 'finance', 'operator', 'admin')),
    -- The lanes it may use, in order; the first is its default for synchronous calls. Jobs default to bulk where it is allowed.
    lanes       text[] not null check (cardinality(lanes) between 1 and 32),
    -- HMAC-SHA-256 of the secret part under a pepper that is not in this database.
    mac         bytea not null check (length(mac) = 32),
    slots       bigint check (slots > 0),
    rpm         bigint check (rpm > 0),
    tpm         bigint check (tpm > 0),
    created_at  timestamptz not null default now(),
    -- Bumped by every change, so that replicas can ask for what is new.
    changed_at  timestamptz not null default clock_timestamp(),
    revoked_at  timestamptz
);
create index api_key_team on api_key (team_id);
create index api_key_changed on api_key (changed_at);

-- Every version of lanes, routes, deployments, teams and prices that was ever active; the highest is. Replicas follow it.
create table config_version (
    version     bigint generated always as identity primary key,
    hash        text not null,
    document    jsonb not null,
    applied_at  timestamptz not null default now(),
    applied_by  text not null
);
