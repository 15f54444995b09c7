"""What scripts/bench measures: one bench a module, each a generator of (metric, value, unit)."""
