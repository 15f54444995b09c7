-- What operators change is audited as jobs are.

alter table audit
    alter column job_id drop not null,
    -- Null for what is no job.
    alter column team_id drop not null,
    -- What was changed, when that is no job: 'lane:bulk', 'limit:team:search', 'key:ID', 'team:NAME', 'schedule:ID', 'config'.
    add column object text,
    add constraint audit_is_of_something check ((job_id is null) <> (object is null));
create index audit_by_object on audit (object, at, audit_id) where object is not null;
create index audit_by_time on audit (at, audit_id);

-- How fast requests of a job end of late: what the worker's row counted, each share of it fading with the seconds since. Kept in
-- the row that is written anyway, so that every replica tells the same without having watched.
alter table job_tally
    add column lately   double precision not null default 0,
    add column longer   double precision not null default 0,
    add column faded_at timestamptz not null default now();

-- What is left of a figure that fades by a factor of e in `seconds`.
create function tollway_faded(figure double precision, since timestamptz, seconds double precision) returns double precision
language sql stable as $$
    -- exp() takes a result that is too small for an error.
    select figure * exp(-least(greatest(extract(epoch from now() - since)::double precision, 0) / seconds, 500))
$$;
