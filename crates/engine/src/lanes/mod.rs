//! The lanes in force, and changes to them at run time. The API cannot change lanes of the file; it adds others, and
//! changes the default lanes where the file declares none. A removed lane is closed, and disappears once it is empty.

mod change;
mod closing;
mod show;

pub use change::{LaneError, remove, set};
pub use closing::forget_drained;
pub use show::{Shown, show};
