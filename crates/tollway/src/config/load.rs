//! Finds the file, reads it, lays the environment over it, and checks what types alone cannot.

use std::path::{Path, PathBuf};

use domain::{budget, catalog::Caps};
use toml::Table;

use super::{
    Config, ReceiverKind, dates,
    error::{ConfigError, SettingOrigin},
    locate, overrides,
    secret::SecretRef,
    unknown,
};

const DEFAULT_FILE: &str = "tollway.toml";

#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// `None`: there is no file, and all is default or from the environment.
    pub file: Option<PathBuf>,
    /// The variables that were taken, sorted.
    pub variables: Vec<String>,
}

/// `given` is `--config` or `TOLLWAY_CONFIG`, and must exist; without it `./tollway.toml` is read where there is one.
pub fn load(given: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    let file = given.or(default.exists().then_some(default)).map(Path::to_owned);
    let text = match &file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| ConfigError::NotReadable { path: path.clone(), source })?
        }
        None => String::new(),
    };
    let file_path = file.clone().unwrap_or_else(|| default.to_owned());
    let (config, variables) = parse(&file_path, &text, environment)?;
    Ok(Loaded { config, file, variables })
}

/// The text of the file `file`, with the overrides of `environment`. Also returns the variables that were taken.
pub(super) fn parse(
    file: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<String>), ConfigError> {
    let text = &*dates::quoted(text);
    // The file on its own first: only then have errors a line.
    let mut config: Config = toml::from_str(text).map_err(|error| explain(file, text, &error))?;
    let mut table: Table = toml::from_str(text).map_err(|error| explain(file, text, &error))?;
    let mut set: Vec<(String, String)> = environment.collect();
    set.sort();
    let mut variables = Vec::new();
    for (variable, value) in set {
        if let Some(path) = overrides::path_of(&variable) {
            table = overrides::apply(&table, &variable, &path, &value)?;
            variables.push(variable);
        }
    }
    if !variables.is_empty() {
        config = table.try_into().map_err(|error: toml::de::Error| ConfigError::Invalid {
            place: SettingOrigin::File(file.to_owned()),
            message: error.message().to_owned(),
        })?;
    }
    check(&config).map_err(|(path, message)| {
        let place = match locate::line_of_path(text, &path) {
            Some(line) => SettingOrigin::Line { file: file.to_owned(), line },
            None => SettingOrigin::File(file.to_owned()),
        };
        ConfigError::Invalid { place, message: format!("{}: {message}", path.join(".")) }
    })?;
    Ok((config, variables))
}

fn explain(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let Some(span) = error.span() else {
        return ConfigError::Invalid {
            place: SettingOrigin::File(file.to_owned()),
            message: error.message().to_owned(),
        };
    };
    let place = SettingOrigin::Line { file: file.to_owned(), line: locate::line_of(text, span.start) };
    let mut path = locate::path_at(text, &span);
    match unknown::parse(error.message()) {
        Some(unknown) => {
            if path.last() == Some(&unknown.key) {
                path.pop();
            }
            let parent = path.join(".");
            let key = unknown::join(&parent, &unknown.key);
            ConfigError::UnknownKey { place, key, advice: unknown::advice(&unknown, &parent) }
        }
        None if path.is_empty() => ConfigError::Invalid { place, message: error.message().to_owned() },
        None => ConfigError::Invalid { place, message: format!("{}: {}", path.join("."), error.message()) },
    }
}

type Fault<'a> = (Vec<&'a str>, String);

/// Checks values that the types allow but that no process could run with.
fn check(config: &Config) -> Result<(), Fault<'_>> {
    let at_least = |path: [&'static str; 2], value: u64, least: u64| {
        if value >= least { Ok(()) } else { Err((path.to_vec(), format!("must be at least {least}"))) }
    };
    at_least(["server", "max_body_mb"], config.server.max_body_mb as u64, 1)?;
    at_least(["server", "max_upload_gb"], config.server.max_upload_gb, 1)?;
    at_least(["server", "max_uploads"], config.server.max_uploads as u64, 1)?;
    at_least(["server", "max_lines"], config.server.max_lines.max(0) as u64, 1)?;
    at_least(["server", "max_upload_s"], config.server.max_upload_s, 1)?;
    at_least(["server", "max_connections"], config.server.max_connections as u64, 16)?;
    at_least(["server", "max_connections_per_address"], config.server.max_connections_per_address as u64, 1)?;
    at_least(["database", "api_connections"], config.database.api_connections.into(), 2)?;
    // Three that settle, one that claims, and one each for grants and for the sign of life.
    at_least(["database", "work_connections"], config.database.work_connections.into(), 6)?;
    at_least(["database", "statement_timeout_s"], config.database.statement_timeout_s, 1)?;
    at_least(["worker", "slots"], config.worker.slots as u64, 1)?;
    at_least(["worker", "lease_s"], config.worker.lease_s, 5)?;
    at_least(["quotas", "pending_requests"], config.quotas.pending_requests, 1)?;
    at_least(["quotas", "pending_gb"], config.quotas.pending_gb, 1)?;
    at_least(["retention", "days"], config.retention.days, 1)?;
    if config.server.max_body_mb > 512 {
        return Err((vec!["server", "max_body_mb"], "must be at most 512".to_owned()));
    }
    if config.retention.days > 36_500 {
        return Err((vec!["retention", "days"], "must be at most 36500".to_owned()));
    }
    check_caps(config)?;
    let amounts =
        config.teams.iter().map(|(name, team)| (vec!["teams", name, "approve_above_usd"], team.approve_above_usd));
    for (path, amount) in amounts.chain([(vec!["approval", "above_usd"], config.approval.above_usd)]) {
        if amount.is_some_and(|amount| amount.0 < 0) {
            return Err((path, "must not be below zero".to_owned()));
        }
    }
    for (name, budget) in &config.budgets {
        let named = budget::check_name(name).and_then(|()| budget::check(budget));
        named.map_err(|bad| (vec!["budgets", name.as_str()], bad.to_string()))?;
    }
    for (name, receiver) in &config.alerts {
        match (receiver.kind, &receiver.secret) {
            (ReceiverKind::Webhook, None) => {
                let message = "must be set: what its messages are signed with, as env:NAME or file:PATH";
                return Err((vec!["alerts", name, "secret"], message.to_owned()));
            }
            (ReceiverKind::Slack, Some(_)) => {
                return Err((
                    vec!["alerts", name, "secret"],
                    "is not for Slack, which checks no signatures".to_owned(),
                ));
            }
            _ => {}
        }
    }
    for (name, deployment) in &config.deployments {
        if let Some(Err(error)) = deployment.credential.as_deref().map(SecretRef::parse) {
            return Err((vec!["deployments", name, "credential"], error.to_string()));
        }
    }
    if let Some(url) = &config.lake.url
        && url.contains("://")
        && !["s3://", "s3a://", "file://"].iter().any(|scheme| url.starts_with(scheme))
    {
        return Err((vec!["lake", "url"], "must be a folder, or s3://bucket/prefix".to_owned()));
    }
    Ok(())
}

/// A part cannot have more than the whole.
fn check_inside(whole: &Caps, part: &Caps) -> Result<(), (&'static str, String)> {
    for (key, whole, part) in
        [("slots", whole.slots, part.slots), ("rpm", whole.rpm, part.rpm), ("tpm", whole.tpm, part.tpm)]
    {
        match (whole, part) {
            (_, Some(part)) if part < 1 => return Err((key, "must be at least 1".to_owned())),
            (Some(whole), Some(part)) if part > whole => {
                return Err((key, format!("is {part}, more than the {whole} of the whole team")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A cap of 0 would stop what it limits for good, which is probably not meant.
fn check_caps(config: &Config) -> Result<(), Fault<'_>> {
    for (name, team) in &config.teams {
        let caps = [
            ("slots", team.slots),
            ("rpm", team.rpm),
            ("tpm", team.tpm),
            ("pending_requests", team.pending_requests),
            ("pending_gb", team.pending_gb),
        ];
        if let Some((key, _)) = caps.iter().find(|(_, cap)| cap.is_some_and(|cap| cap < 1)) {
            return Err((vec!["teams", name, key], "must be at least 1".to_owned()));
        }
        for (lane, caps) in &team.lanes {
            check_inside(&team.caps(), caps)
                .map_err(|(key, reason)| (vec!["teams", name.as_str(), "lanes", lane.as_str(), key], reason))?;
        }
    }
    Ok(())
}
