//! Why a command did not do what it was asked, and what to do about it.

use std::fmt;

use serde_json::json;

use super::exit::Exit;
use crate::config::ConfigError;

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// What happened; empty when there is nothing to say, as when the reader of a pipe went away.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

pub type Outcome<T = Exit> = Result<T, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// For people: a sentence, and below it the advice.
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("tollway: {}\n  {hint}", self.message),
            None => format!("tollway: {}", self.message),
        }
    }

    pub fn json(&self) -> String {
        json!({ "error": self.message, "hint": self.hint, "exit_code": self.exit as u8 }).to_string()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // `tollway … | head`: the reader has what it wanted.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "");
        }
        Self::new(Exit::Failed, error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<std::io::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::new(Exit::Failed, format_args!("{error:#}")),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Refused, error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use store::Error::{Database, Io, PoolTimedOut, Tls};
        match error {
            Io(_) | PoolTimedOut | Tls(_) => {
                Self::new(Exit::Unavailable, format_args!("the database cannot be reached: {error}"))
            }
            // undefined_table
            Database(error) if error.code().as_deref() == Some("42P01") => {
                Self::new(Exit::Refused, "the database has no schema yet").hint("Run `tollway migrate`.")
            }
            Database(error) => Self::new(Exit::Failed, format_args!("the database said: {error}")),
            other => Self::new(Exit::Failed, format_args!("database: {other}")),
        }
    }
}
