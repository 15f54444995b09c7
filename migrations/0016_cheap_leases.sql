-- Each request is leased once at least, so what a lease costs is paid by all of them.

-- A worker's leases are asked for when it is dead, when it ends, and now and then; all leases are few beside what was ever leased, and
-- are read as they lie.
drop index lease_by_worker;

-- Leases are written by COPY, which cannot say now(). A claim takes no more than can start at once, so its commit is the mark that
-- precedes the calls.
alter table lease alter column started_at set default now();
