-- What a team's share of a lane has used, so that claims serve whoever has used least. Written by claims only.

alter table share
    -- Slot-time it used, in µs divided by its weight; raised to where the lane stands when it comes back after a rest, so that
    -- a rest earns no credit. How far one share is ahead of another is all that it says.
    add column level bigint not null default 0,
    -- What a call of it takes, in µs, learned from those that ended; 0: not known yet.
    add column cost  bigint not null default 0;

-- share.blocked_until = '-infinity' says that it was woken since a claim last looked at it; a claim leaves now() behind.
-- flow.served_at is, since when a flow has been refused; '-infinity': when it was last asked, it was let through.
