-- Keys that end by themselves. Null: never. A key is refused from this moment on by each replica's own copy of the table, in database
-- time, so nothing has to run at that moment. A replica of the version before this one knows no expiry: during an upgrade an expired
-- key works there until that replica is replaced.
alter table api_key
    add column expires_at timestamptz,
    add constraint api_key_expires_after_creation check (expires_at > created_at);

-- The alert before a key expires looks at these alone.
create index api_key_expiring on api_key (expires_at) where expires_at is not null and revoked_at is null;
