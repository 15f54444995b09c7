//! The sections about this process; the rest of the file is `domain::Catalog`'s. Defaults stand in `tollway.example.toml` too.

use std::net::SocketAddr;

use domain::AlertKind;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// The largest body of a synchronous call.
    pub max_body_mb: usize,
    /// The largest upload of a job, decompressed.
    pub max_upload_gb: u64,
    /// Uploads of jobs under way at once in this process.
    pub max_uploads: usize,
    /// The most lines of one job.
    pub max_lines: i32,
    /// Over any half minute in which its client is waited for, an upload comes in at least at this rate.
    pub min_upload_kb_s: u64,
    /// From an upload's first byte to its last.
    pub max_upload_s: u64,
    /// Connections of callers at once in this process; fewer where the system allows too few open files.
    pub max_connections: usize,
    /// Of one address among them.
    pub max_connections_per_address: usize,
    /// How long after SIGTERM requests are still taken, while `/readyz` says no already.
    pub shutdown_delay_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Absent: the variable `DATABASE_URL`.
    pub url: Option<SecretRef>,
    pub api_connections: u32,
    pub work_connections: u32,
    pub statement_timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Requests of jobs under way at once in this process.
    pub slots: usize,
    /// How long a silent worker keeps its leases.
    pub lease_s: u64,
    /// How long calls in flight may continue after a shutdown began.
    pub drain_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeStore {
    /// A folder, or `s3://bucket/prefix`.
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Bodies and results are purged this long after their job ended. The ledger stays.
    pub days: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Hosts on private addresses may receive webhooks.
    pub allow_private_hosts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Secrets {
    pub pepper: Option<SecretRef>,
}

/// A receiver of alerts: `[alerts.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertReceiver {
    pub kind: ReceiverKind,
    /// A secret: everyone who knows it can write there.
    pub url: SecretRef,
    /// What a webhook's messages are signed with.
    pub secret: Option<SecretRef>,
    /// Left out: all.
    #[serde(default = "all_kinds")]
    pub on: Vec<AlertKind>,
    /// Left out: all, and what concerns no team.
    #[serde(default)]
    pub teams: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiverKind {
    /// An incoming webhook of Slack.
    Slack,
    /// Signed as the completion webhooks of jobs are.
    Webhook,
}

fn all_kinds() -> Vec<AlertKind> {
    AlertKind::ALL.to_vec()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            max_body_mb: 8,
            max_upload_gb: 20,
            max_uploads: 32,
            max_lines: 5_000_000,
            min_upload_kb_s: 1,
            max_upload_s: 6 * 3600,
            max_connections: 10_000,
            max_connections_per_address: 5_000,
            shutdown_delay_s: 5,
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: None, api_connections: 10, work_connections: 8, statement_timeout_s: 30 }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self { slots: 256, lease_s: 30, drain_s: 30 }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 30 }
    }
}
