//! Which waiting requests run next, and how many of a lane's or a team's run at once. No I/O: who waits, what limits refuse and what
//! calls cost is told to it. `fill` allots free slots, by the `account`s of teams and the `turns` of lanes; `calls` counts
//! synchronous calls; `slots` is what one replica runs.

pub mod allocator;
pub mod backoff;
pub mod lane_scheduler;
pub mod slot_time;
mod slots;
mod sync_slots;

pub use slots::{Bill, CallGuard, SlotGuard, Slots};
