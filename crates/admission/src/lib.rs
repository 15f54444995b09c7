//! May this call start now? Limits and budgets answer, and one [`Admission`] holds what they gave until the call has ended. What both
//! share is [`AdmissionControl`]: nothing here knows of jobs, routes' health or HTTP.

pub mod admission;
pub mod budgets;
pub mod catalog;
pub mod clock;
mod control;
pub mod fit;
pub mod granter;
pub mod limits;
mod notifier;
mod peers;
pub mod worst_case;

#[cfg(test)]
mod testing;

pub use admission::{Admission, Placement};
pub use control::AdmissionControl;
pub use notifier::WorkNotifier;
