//! RowsOf fault a failed call was, as far as the evidence goes.

/// Whom the evidence blames for a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Requests of others fail there too, or the provider said that it takes none.
    Deployment,
    /// Nobody can tell yet: other requests were not heard of since.
    Unclear,
    Request,
}
