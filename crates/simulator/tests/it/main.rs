//! The simulator as its users meet it: over a socket.

mod answers;
mod faults;
mod journal;
mod messages;
mod steering;
mod streaming;
mod support;
