//! What is wrong with a configuration, and where.

use std::{fmt, path::PathBuf};

use notify::alerts::BadReceiver;

use super::secret::BadSecret;

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    Line { file: PathBuf, line: usize },
    File(PathBuf),
    Variable(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Safe to show: no variant repeats a value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {path} cannot be read: {source}")]
    NotReadable { path: PathBuf, source: std::io::Error },
    #[error("{place}: unknown key {key}; {advice}")]
    UnknownKey { place: SettingOrigin, key: String, advice: String },
    #[error("{place}: {message}")]
    Invalid { place: SettingOrigin, message: String },
    #[error("{key}: {source}")]
    Secret { key: &'static str, source: BadSecret },
    #[error("alerts.{name}.{key}: {source}")]
    ReceiverSecret { name: String, key: &'static str, source: BadSecret },
    // It says which key.
    #[error("alerts.{name}.{source}")]
    Receiver { name: String, source: BadReceiver },
    #[error(
        "no database is configured: set DATABASE_URL, or url = \"env:NAME\" under [database]; `tollway dev` brings one along"
    )]
    NoDatabase,
    #[error("the database's URL must have the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadDatabaseUrl,
    #[error(
        "no pepper is configured, under which API keys are hashed: make one with `openssl rand -hex 32 > FILE`, keep it as \
         safe as the database's backups but apart from them, and set pepper = \"file:FILE\" under [secrets]"
    )]
    NoPepper,
    #[error("secrets.pepper: {0} must hold 64 hexadecimal digits, as `openssl rand -hex 32` prints them")]
    PepperForm(String),
}
