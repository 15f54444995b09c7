-- How fast a budget burns now: what was spent of its window at moments of the last hours, a minute apart. Windows that roll need none,
-- for their cells say it.
create table budget_sample (
    budget_id   bigint not null,
    at          timestamptz not null,
    spent       numeric(38,0) not null,
    primary key (budget_id, at)
);
