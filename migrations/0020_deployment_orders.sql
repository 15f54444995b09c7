-- What operators say of deployments by hand: take no calls until then, or take calls again. All replicas follow within a second.
--
-- A row a deployment, replaced by the next word. It has no foreign key, as deployments are declared in the configuration; one that
-- is no longer declared is nobody's, and its row does nothing. `ordered_at` tells a replica whether it has followed: each keeps in
-- memory how deployments fare, and a release has it forget that once. Replicas of an earlier version do not read the table.
create table deployment_order (
    deployment  text primary key,
    -- Null: it was released.
    out_until   timestamptz,
    ordered_at  timestamptz not null default clock_timestamp()
);
