//! Lanes: those that are in force, and changing them while everything runs. The file's lanes are its own; the API adds others
//! and changes those that exist by default where the file declares none. One that is removed is closed, and goes once nothing is
//! left in it.

mod change;
mod closing;
mod show;

pub use change::{LaneError, remove, set};
pub use closing::forget_drained;
pub use show::{Shown, show};
