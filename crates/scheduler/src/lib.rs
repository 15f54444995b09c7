//! Which waiting requests run next, and how many of a lane's or a team's run at once. No I/O: the caller says what waits, what limits
//! refuse and what calls cost. The `allocator` hands out free slots by the virtual time of lanes (`lane_scheduler`) and of teams
//! (`slot_time`); `sync_slots` counts synchronous calls; `slots` is what one replica runs; `backoff` how long a refused flow waits.

pub mod allocator;
pub mod backoff;
pub mod lane_scheduler;
pub mod slot_time;
mod slots;
mod sync_slots;

pub use slots::{Bill, CallGuard, SlotGuard, Slots};
