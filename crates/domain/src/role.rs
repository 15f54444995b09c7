//! What a key may do. Roles are a ladder only where that is true: `finance` reads money of all teams and submits nothing.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits jobs, calls models, manages its own team's jobs.
    Submit,
    /// Reads its own team's jobs, results and spend.
    Read,
    /// Reads reports over all teams.
    Finance,
    /// Pauses, resumes and cancels any team's jobs; sees lanes and limits.
    Operator,
    /// Everything, teams and keys included.
    Admin,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Submit, Self::Read, Self::Finance, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Finance => "finance",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: submit, read, finance, operator or admin")]
pub struct BadRole(String);

impl FromStr for Role {
    type Err = BadRole;
    fn from_str(text: &str) -> Result<Self, BadRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| BadRole(text.chars().take(64).collect()))
    }
}
