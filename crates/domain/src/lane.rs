//! A lane is a priority class. `prod` is strict and has a reserve; the others share the rest by weight.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lane(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a lane's name: 1 to 32 lower-case letters, digits, - or _")]
pub struct BadLane(String);

impl Lane {
    pub fn prod() -> Self {
        Self("prod".into())
    }
    pub fn standard() -> Self {
        Self("standard".into())
    }
    pub fn bulk() -> Self {
        Self("bulk".into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Lane {
    type Err = BadLane;
    fn from_str(name: &str) -> Result<Self, BadLane> {
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if fits { Ok(Self(name.into())) } else { Err(BadLane(name.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for Lane {
    type Error = BadLane;
    fn try_from(name: String) -> Result<Self, BadLane> {
        name.parse()
    }
}

impl From<Lane> for String {
    fn from(lane: Lane) -> String {
        lane.0.as_ref().to_owned()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
