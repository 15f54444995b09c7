//! The configuration in force: a file or a change through the API becomes its next version, and all replicas follow the highest one.

mod changed;
mod follow;
mod lanes;
mod reload;

pub use self::{
    changed::changed,
    follow::{ApplyError, apply_catalog, follow_now, run as follow_catalog},
    lanes::{merged, with_closing},
    reload::{ReloadError, reload},
};
