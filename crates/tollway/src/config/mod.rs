//! What the operator writes: one TOML file, overridden by `TOLLWAY_SECTION__KEY` variables. `tollway.example.toml` documents
//! every key. Secrets are references (`env:NAME`, `file:PATH`), never values.

mod dates;
mod error;
mod load;
mod locate;
mod overrides;
mod secret;
mod sections;
mod unknown;

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Budget, Catalog, Deployment, Lane, Route,
    catalog::{Approval, LaneRule, OwnPrice, Quotas, TeamRule},
};
use notify::alerts::{Receiver, ReceiverSpec};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use load::{Loaded, load};
pub use secret::SecretRef;
pub use sections::{AlertReceiver, Database, LakeStore, ReceiverKind, Retention, Secrets, Server, Webhooks, Worker};

/// The whole file. Sections that are left out have their defaults.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub database: Database,
    pub worker: Worker,
    pub lake: LakeStore,
    pub retention: Retention,
    pub webhooks: Webhooks,
    pub secrets: Secrets,
    pub lanes: BTreeMap<Lane, LaneRule>,
    pub deployments: BTreeMap<String, Deployment>,
    pub routes: BTreeMap<String, Route>,
    pub teams: BTreeMap<String, TeamRule>,
    pub prices: Vec<OwnPrice>,
    pub quotas: Quotas,
    pub budgets: BTreeMap<String, Budget>,
    pub approval: Approval,
    pub alerts: BTreeMap<String, AlertReceiver>,
}

impl Config {
    /// What replicas agree on through the database.
    pub fn catalog(&self) -> Catalog {
        Catalog {
            lanes: self.lanes.clone(),
            deployments: self.deployments.clone(),
            routes: self.routes.clone(),
            teams: self.teams.clone(),
            prices: self.prices.clone(),
            quotas: self.quotas,
            budgets: self.budgets.clone(),
            approval: self.approval,
        }
    }

    pub fn settings(&self) -> engine::Settings {
        engine::Settings {
            slots: self.worker.slots,
            lease: Duration::from_secs(self.worker.lease_s),
            drain: Duration::from_secs(self.worker.drain_s),
            retention: Duration::from_secs(self.retention.days * 24 * 3600),
            max_body: self.server.max_body_mb << 20,
            max_lines: self.server.max_lines,
            max_upload: self.server.max_upload_gb << 30,
            max_uploads: self.server.max_uploads,
            uploads: engine::UploadRate {
                bytes_per_s: self.server.min_upload_kb_s << 10,
                deadline: Duration::from_secs(self.server.max_upload_s),
            },
            shutdown_delay: Duration::from_secs(self.server.shutdown_delay_s),
            connections: engine::Connections {
                most: self.server.max_connections,
                per_address: self.server.max_connections_per_address,
            },
            webhooks_to_private_hosts: self.webhooks.allow_private_hosts,
            ..engine::Settings::default()
        }
    }

    /// The receivers of alerts, with their addresses and secrets.
    pub fn receivers(&self) -> Result<Vec<Receiver>, ConfigError> {
        let receiver = |(name, declared): (&String, &AlertReceiver)| {
            let read = |key, reference: &SecretRef| {
                reference.read().map_err(|source| ConfigError::ReceiverSecret { name: name.clone(), key, source })
            };
            let wanted = ReceiverSpec {
                name: name.clone(),
                url: read("url", &declared.url)?,
                secret: declared.secret.as_ref().map(|secret| read("secret", secret)).transpose()?,
                on: declared.on.clone(),
                teams: declared.teams.clone(),
            };
            Receiver::new(wanted, self.webhooks.allow_private_hosts)
                .map_err(|source| ConfigError::Receiver { name: name.clone(), source })
        };
        self.alerts.iter().map(receiver).collect()
    }

    pub fn pool_sizes(&self) -> store::connect::PoolSizes {
        store::connect::PoolSizes {
            api: self.database.api_connections,
            work: self.database.work_connections,
            statement_timeout: Duration::from_secs(self.database.statement_timeout_s),
        }
    }

    /// `[database] url`, else the variable `DATABASE_URL`.
    pub fn database_url(&self) -> Result<SecretString, ConfigError> {
        let reference = match &self.database.url {
            Some(reference) => reference.clone(),
            None if std::env::var_os("DATABASE_URL").is_some() => SecretRef::Env("DATABASE_URL".to_owned()),
            None => return Err(ConfigError::NoDatabase),
        };
        reference.read().map_err(|source| ConfigError::Secret { key: "database.url", source })
    }

    /// 32 bytes, written as 64 hexadecimal digits, under which API keys are hashed and webhooks signed.
    pub fn pepper(&self) -> Result<SecretBox<[u8; 32]>, ConfigError> {
        let reference = self.secrets.pepper.as_ref().ok_or(ConfigError::NoPepper)?;
        let text = reference.read().map_err(|source| ConfigError::Secret { key: "secrets.pepper", source })?;
        secret::hex_32(text.expose_secret()).ok_or_else(|| ConfigError::PepperForm(reference.to_string()))
    }

    /// A folder, or `s3://bucket/prefix`.
    pub fn lake_url(&self) -> String {
        match &self.lake.url {
            Some(url) => url.clone(),
            None => crate::paths::data_dir().join("lake").display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
