//! What a process of the gateway does: all by default.

use std::{fmt, str::FromStr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes HTTP requests.
    pub api: bool,
    /// Drains the lanes.
    pub worker: bool,
    /// Runs chores: reaping, partitions, lake export, retention.
    pub maintenance: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: api, worker or maintenance, several with commas between")]
pub struct BadRoles(String);

impl Roles {
    pub const ALL: Self = Self { api: true, worker: true, maintenance: true };
}

impl FromStr for Roles {
    type Err = BadRoles;

    fn from_str(text: &str) -> Result<Self, BadRoles> {
        let mut roles = Self { api: false, worker: false, maintenance: false };
        for role in text.split(',') {
            match role.trim() {
                "api" => roles.api = true,
                "worker" => roles.worker = true,
                "maintenance" => roles.maintenance = true,
                other => return Err(BadRoles(other.to_owned())),
            }
        }
        Ok(roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("api", self.api), ("worker", self.worker), ("maintenance", self.maintenance)];
        let on: Vec<&str> = named.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        f.write_str(&on.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_shown() {
        assert_eq!("worker, api".parse::<Roles>().unwrap().to_string(), "api,worker");
        assert_eq!(Roles::ALL.to_string().parse(), Ok(Roles::ALL));
        assert!("api,cron".parse::<Roles>().unwrap_err().to_string().contains("\"cron\""));
        assert!("".parse::<Roles>().is_err());
    }
}
