//! An alert before it is one: it becomes a row if nobody raised the same.

use domain::alert::Said;
use store::alert::Key;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub key: Key,
    pub object: String,
    pub team: Option<String>,
    pub said: Said,
    /// What its message speaks for too: lower thresholds, other objects of the same moment.
    pub silent: Vec<Key>,
}
