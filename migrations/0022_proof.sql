-- What is known of money, and who knows it: which replicas follow which budgets and since when, which charges of the ledger were set
-- right, and what a team signs its webhooks with.

-- Since when the replica follows the revision in `budgets`: whoever changes a budget is told since when it holds everywhere. Null also
-- for replicas of the version before, which do not say it.
alter table worker add column budgets_at timestamptz;

-- Corrections of the ledger, found by the attempt that they correct. The rows themselves are in the ledger, on the day of what they
-- correct; an index on `corrects_attempt_id` there would cost every row for the sake of very few. Replicas of the version before write
-- none here, so whoever looks for the correction of a late answer also looks for the id that follows from its attempt.
create table ledger_correction (
    correction_id uuid primary key,
    attempt_id    uuid not null,
    usage_date    date not null,
    recorded_at   timestamptz not null default now()
);
create index ledger_correction_by_attempt on ledger_correction (attempt_id);

insert into ledger_correction (correction_id, attempt_id, usage_date, recorded_at)
select attempt_id, corrects_attempt_id, usage_date, recorded_at from ledger_entry where corrects_attempt_id is not null;

-- What a team's receivers check the signatures of its webhooks with. Sealed under the pepper, so that the database alone signs nothing;
-- shown once, when it is made. During a rotation two are active, and a message carries both signatures.
create table team_webhook_secret (
    secret_id  uuid primary key,
    team_id    bigint not null references team,
    sealed     text not null,
    created_at timestamptz not null default now(),
    created_by text not null,
    -- Replaced: it still signs until then. Null: it is the team's newest.
    expires_at timestamptz
);
create index team_webhook_secret_by_team on team_webhook_secret (team_id);
create unique index team_webhook_secret_newest on team_webhook_secret (team_id) where expires_at is null;

-- An alert about a budget is about one amount of it: raised, it has other thresholds. Without this each would be told again.
update alert a set about = a.about || '@' || b.cap
from budget b where a.kind = 'budget' and a.about = b.budget_id::text;

-- Webhook URLs are sealed from this version on, for they may hold a user, a password or a token. A replica of the version before takes a
-- sealed one for a bad URL and gives its message up; this returns it to the outbox, for a replica that can open it. To be dropped with
-- the version after the next.
create function tollway_keep_sealed_webhooks() returns trigger language plpgsql as $$
begin
    new.given_up_at := null;
    new.tries := greatest(old.tries - 1, 0);
    new.next_try_at := now() + interval '2 s';
    return new;
end $$;
create trigger webhook_outbox_sealed before update on webhook_outbox for each row
    when (new.url like 'sealed:%' and new.given_up_at is not null and old.given_up_at is null
          and new.last_error like 'it is not an absolute URL%')
    execute function tollway_keep_sealed_webhooks();
