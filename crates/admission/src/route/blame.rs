//! Whose fault a failed call was, as far as the evidence goes.

/// The party that the evidence blames for a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Requests of others fail there too, or the provider said that it takes none.
    Deployment,
    /// Undecided: no other request has reported back since.
    Unclear,
    Request,
}
