//! User stories, told with real processes: one file each. `cargo build -p tollway` comes first; see `e2e::binary`.

mod after;
mod bad_input;
mod connections;
mod direct;
mod fuzz;
mod life;
mod progress;
mod results;
mod retry;
mod schedules;
mod submit;

mod commands;
mod declared;
mod examples;
mod reload;
mod report;

mod alerts;
mod approval;
mod budgets;
mod fair;
mod guards;
mod lanes;
mod limits;
mod quotas;
mod quote;
mod tenants;
mod windows;

mod cut_database;
mod disk_full;
mod kill_gateway;
mod kill_postgres;
mod outage;
mod parted;
mod poison;
mod rolling;
mod skewed;
