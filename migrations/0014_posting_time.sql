-- COPY writes rows one by one where a column's default is volatile, and many at once where it is not. The time at which the rows
-- of one settlement arrived is the posting time of each.
alter table ledger alter column recorded_at set default statement_timestamp();
