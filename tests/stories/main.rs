//! User stories, told with real processes: one file each. `cargo build -p tollway` comes first; see `e2e::binary`.

mod after;
mod bad_input;
mod connections;
mod direct;
mod fuzz;
mod job_lifecycle;
mod progress;
mod results;
mod retry;
mod schedules;
mod submit;

mod commands;
mod config_reload;
mod examples;
mod reload;
mod report;

mod alerts;
mod approval;
mod budget_windows;
mod budgets;
mod fair_shares;
mod guards;
mod lanes;
mod limits;
mod quotas;
mod quote;
mod tenants;

mod clock_skew;
mod cut_database;
mod disk_full;
mod kill_gateway;
mod kill_postgres;
mod network_partition;
mod outage;
mod poison_requests;
mod rolling;
