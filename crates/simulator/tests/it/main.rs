//! The simulator as its users meet it: over a socket.

mod answers;
mod faults;
mod journal;
mod steering;
mod streaming;
mod support;
