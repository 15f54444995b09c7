# An index of the scripts; `just` lists it.

default:
    @just --list

# Everything on this machine, end to end
demo *ARGS:
    scripts/demo {{ARGS}}

# All checks and tests; --full adds the long ones
test *ARGS:
    scripts/test {{ARGS}}

# Measure: `just bench sync drain`
bench *ARGS:
    scripts/bench {{ARGS}}

# Generate the reference pages, and check links and commands of all pages
docs *ARGS:
    scripts/docs {{ARGS}}

# Crates, largest files, longest functions, rings between modules
structure *ARGS:
    scripts/structure {{ARGS}}

# Bring .sqlx up to date after a changed query or migration
sqlx:
    scripts/sqlx-prepare

# Bring the shipped price list up to date
prices:
    scripts/refresh-prices
