//! Telling others: one sender and one retry policy for job webhooks and alerts. Each has an outbox of its own in the database; what is
//! here takes what is due, sends it, and says how it went.

mod egress;
pub mod policy;
pub mod post;
mod sender;

pub use self::{
    egress::{BadUrl, check_url},
    policy::Reason,
    sender::{BATCH, LEASE, Letter, Outbox, Sender},
};
