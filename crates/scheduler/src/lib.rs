//! Which waiting requests run next, and how many of a lane's or a team's run at once. No I/O: who waits, what limits refuse and what
//! calls cost is told to it. `fill` allots free slots, by the `account`s of teams and the `turns` of lanes; `calls` counts
//! synchronous calls; `slots` is what one replica runs.

pub mod account;
mod calls;
pub mod fill;
pub mod pause;
mod slots;
pub mod turns;

pub use slots::{Bill, CallGuard, SlotGuard, Slots};
