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
