-- Limits: what a replica holds for calls that are still to come, and limits that are set anew.

-- Raised whenever a limit is set anew: made again after it was removed, or changed. What replicas hold of a rate, and what is owed to
-- it, belongs to one generation, so neither outlives the change. A version that does not know the column goes on as before.
alter table limit_rule add column generation bigint not null default 0;

-- When the replica last said what it uses. A replica may hold more than it uses, so others refuse nobody before they have its word from
-- after the call began. Rates have rows here too: `granted` is then what the replica holds unspent, and the bucket's measure is less by it.
alter table limit_use add column told_at timestamptz not null default '-infinity';
