//! The scope of a limit as `limit_rule.scope` stores it. Only this module formats and parses it.

use std::{fmt, str::FromStr};

use domain::{Lane, waits::WaitReason};

/// The scope of a stored limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredScope {
    Team(i64),
    Lane {
        lane: Lane,
        team: i64,
    },
    Key(String),
    Deployment(String),
    /// A lane partition of a deployment's limit.
    LanePartition {
        deployment: String,
        partition: LanePartition,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanePartition {
    /// What the reserves leave, shared by all lanes.
    Shared,
    /// One lane's own.
    Reserve(Lane),
    /// A lane's maximum.
    Most(Lane),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no stored scope of a limit")]
pub struct BadStoredScope(String);

impl StoredScope {
    /// The wait reason of a request that a limit of this scope refuses.
    pub fn reason(&self) -> WaitReason {
        match self {
            Self::Team(_) => WaitReason::TeamLimit,
            Self::Lane { .. } => WaitReason::LaneLimit,
            Self::Key(_) => WaitReason::KeyLimit,
            Self::Deployment(_) | Self::LanePartition { .. } => WaitReason::DeploymentLimit,
        }
    }

    /// As users write it, with the team's name in place of its number.
    pub fn named(&self, team: &str) -> String {
        match self {
            Self::Team(_) => format!("team:{team}"),
            Self::Lane { lane, .. } => format!("lane:{lane}:team:{team}"),
            Self::Deployment(name) => format!("deployment:{name}"),
            Self::Key(_) | Self::LanePartition { .. } => self.to_string(),
        }
    }

    /// The number of the team that it names.
    pub fn team(&self) -> Option<i64> {
        match self {
            Self::Team(team) | Self::Lane { team, .. } => Some(*team),
            Self::Key(_) | Self::Deployment(_) | Self::LanePartition { .. } => None,
        }
    }
}

impl fmt::Display for StoredScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team(team) => write!(f, "team:{team}"),
            Self::Lane { lane, team } => write!(f, "lane:{lane}:team:{team}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Deployment(name) => write!(f, "deployment:{}", escaped(name)),
            Self::LanePartition { deployment, partition } => {
                write!(f, "deployment:{}", escaped(deployment))?;
                match partition {
                    LanePartition::Shared => write!(f, ":shared"),
                    LanePartition::Reserve(lane) => write!(f, ":reserve:{lane}"),
                    LanePartition::Most(lane) => write!(f, ":most:{lane}"),
                }
            }
        }
    }
}

impl FromStr for StoredScope {
    type Err = BadStoredScope;

    fn from_str(text: &str) -> Result<Self, BadStoredScope> {
        let bad = || BadStoredScope(text.chars().take(128).collect());
        let (what, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(bad)?;
        match what {
            "team" => rest.parse().map(Self::Team).map_err(|_| bad()),
            "key" => Ok(Self::Key(rest.to_owned())),
            "lane" => {
                let (lane, team) = rest.split_once(":team:").ok_or_else(bad)?;
                let (lane, team) = (lane.parse().map_err(|_| bad())?, team.parse().map_err(|_| bad())?);
                Ok(Self::Lane { lane, team })
            }
            "deployment" => Ok(match split_partition(rest) {
                Some((name, partition)) => Self::LanePartition { deployment: plain(name), partition },
                None => Self::Deployment(plain(rest)),
            }),
            _ => Err(bad()),
        }
    }
}

/// A deployment's name and the part of it, if the text is both.
fn split_partition(text: &str) -> Option<(&str, LanePartition)> {
    let of_lane = |word: &str| {
        let (name, lane) = text.rsplit_once(word)?;
        Some((name, lane.parse::<Lane>().ok()?))
    };
    text.strip_suffix(":shared")
        .map(|name| (name, LanePartition::Shared))
        .or_else(|| of_lane(":reserve:").map(|(name, lane)| (name, LanePartition::Reserve(lane))))
        .or_else(|| of_lane(":most:").map(|(name, lane)| (name, LanePartition::Most(lane))))
}

/// Escapes a name that would read as a lane partition of another deployment. All other names stay as they are.
fn escaped(name: &str) -> String {
    match split_partition(name).is_some() || name.contains("%3A") || name.contains("%25") {
        true => name.replace('%', "%25").replace(':', "%3A"),
        false => name.to_owned(),
    }
}

fn plain(name: &str) -> String {
    name.replace("%3A", ":").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        let (prod, bulk) = (Lane::prod(), Lane::bulk());
        let mut scopes = vec![
            StoredScope::Team(7),
            StoredScope::Lane { lane: bulk.clone(), team: 7 },
            StoredScope::Key("abc".into()),
        ];
        for name in
            ["d", "openai:small", "a:shared", "a:reserve:prod", "a:most:x", "100%", "a%3Ashared", "%25", "team:7"]
        {
            scopes.push(StoredScope::Deployment(name.into()));
            for partition in
                [LanePartition::Shared, LanePartition::Reserve(prod.clone()), LanePartition::Most(bulk.clone())]
            {
                scopes.push(StoredScope::LanePartition { deployment: name.into(), partition });
            }
        }
        let written: std::collections::BTreeSet<String> = scopes.iter().map(StoredScope::to_string).collect();
        assert_eq!(written.len(), scopes.len(), "no two are written alike");
        for scope in scopes {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for bad in ["", "team", "team:", "team:x", "lane:bulk", "lane:No Lane:team:1", "user:a"] {
            assert!(bad.parse::<StoredScope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn usual_names_are_written_as_they_are() {
        for text in ["deployment:d", "deployment:openai:small", "deployment:d:shared", "deployment:d:reserve:prod"] {
            assert_eq!(text.parse::<StoredScope>().map(|scope| scope.to_string()).as_deref(), Ok(text));
        }
        let other = StoredScope::Deployment("a:shared".into());
        assert_eq!(
            (other.to_string().as_str(), other.named("").as_str()),
            ("deployment:a%3Ashared", "deployment:a:shared")
        );
    }
}
