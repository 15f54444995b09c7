//! The configuration in force: a file or a change through the API becomes its next version, and all replicas follow the highest one.

mod diff;
mod lanes;
mod reload;
mod watch;

pub use self::{
    diff::changed,
    lanes::{merged, with_closing},
    reload::{ReloadError, reload},
    watch::{ApplyError, apply_catalog, follow_now, run as follow_catalog},
};
