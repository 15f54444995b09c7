//! Exit codes: scripts rely on them, so a code never changes its meaning.

use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Something went wrong that no other code names.
    Failed = 1,
    /// The arguments were wrong.
    Usage = 2,
    /// The job ended, and not all of its requests succeeded.
    JobFailures = 3,
    NotFound = 4,
    /// The key is missing, unknown, or may not do this.
    Unauthorized = 5,
    /// The input was refused: a bad line, an unknown model, a wrong configuration, a state that does not allow it.
    Refused = 6,
    /// The gateway, the database or a provider cannot be reached or is busy; later it may work.
    Unavailable = 7,
    /// All that there is was written, and something is missing from it: requests that are pending or have no vector.
    Incomplete = 8,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

pub const HELP: &str = "Exit codes:
  0  done                              4  not found
  1  failed                            5  no key, or one that may not do this
  2  wrong arguments                   6  input refused, or not allowed in this state
  3  a job ended with requests that    7  gateway, database or provider out of reach or
     failed, expired or were cancelled    busy: try again
  8  the output lacks requests that    130  stopped by Ctrl-C
     are pending or have no vector

Where the gateway is and the key for it: TOLLWAY_URL and TOLLWAY_API_KEY, else the profile that
`tollway dev` writes, ~/.config/tollway/profile.toml (another place: TOLLWAY_PROFILE).";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// What a failed HTTP answer means.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Unauthorized,
            404 | 410 => Self::NotFound,
            408 | 429 | 502..=504 => Self::Unavailable,
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_codes() {
        for (status, code) in [
            (400, 6),
            (401, 5),
            (403, 5),
            (404, 4),
            (409, 6),
            (410, 4),
            (413, 6),
            (422, 6),
            (429, 7),
            (500, 1),
            (502, 7),
            (503, 7),
        ] {
            assert_eq!(Exit::of_status(status) as u8, code, "{status}");
        }
    }
}
