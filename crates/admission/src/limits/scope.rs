//! The scope of a limit, as users write it.

use std::{fmt, str::FromStr};

use domain::Lane;

/// The scope of a limit, as users write it: `team:NAME`, `lane:LANE:team:NAME`, `key:ID`, `deployment:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitScope {
    Team(String),
    Lane { lane: Lane, team: String },
    Key(String),
    Deployment(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope; use team:NAME, lane:LANE:team:NAME, key:ID or deployment:NAME")]
pub struct BadScope(String);

impl FromStr for LimitScope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let bad = || BadScope(text.chars().take(128).collect());
        let (what, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(bad)?;
        match what {
            "team" => Ok(Self::Team(rest.to_owned())),
            "key" => Ok(Self::Key(rest.to_owned())),
            "deployment" => Ok(Self::Deployment(rest.to_owned())),
            "lane" => {
                let (lane, team) = rest.split_once(":team:").ok_or_else(bad)?;
                Ok(Self::Lane { lane: lane.parse().map_err(|_| bad())?, team: team.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team(team) => write!(f, "team:{team}"),
            Self::Lane { lane, team } => write!(f, "lane:{lane}:team:{team}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Deployment(name) => write!(f, "deployment:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_shown() {
        for text in ["team:search", "lane:bulk:team:search", "key:abcdefghijkl", "deployment:openai:small"] {
            assert_eq!(text.parse::<LimitScope>().unwrap().to_string(), text);
        }
        for text in ["", "team", "team:", "lane:bulk", "lane:No Lane:team:a", "user:a"] {
            assert!(text.parse::<LimitScope>().is_err(), "{text}");
        }
    }
}
