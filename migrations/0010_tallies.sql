-- What the workers of a job counted becomes part of the job's own row some time after its end, so that the hot table holds little
-- more than jobs that run. A count is the sum of both: a correction may come after that.
alter table job
    add column succeeded bigint not null default 0,
    add column failed    bigint not null default 0,
    add column attempts  bigint not null default 0,
    add column unpriced  bigint not null default 0,
    add column cost_pico numeric(38,0) not null default 0;
