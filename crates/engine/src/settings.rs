//! What the operator sets for one process.

use std::time::Duration;

use notify::alerts::Receiver;

/// Figures that the operator sets for one process. Defaults are in [`Settings::default`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests of jobs under way at once in this process.
    pub slots: usize,
    /// How long a silent worker keeps its leases.
    pub lease: Duration,
    /// How long calls in flight may continue after a shutdown began.
    pub drain: Duration,
    /// Bodies and results are purged this long after their job ended.
    pub retention: Duration,
    /// The largest synchronous body, in bytes.
    pub max_body: usize,
    /// The most lines of one job.
    pub max_lines: i32,
    /// The most bytes of one upload, decompressed.
    pub max_upload: u64,
    /// Uploads under way at once.
    pub max_uploads: usize,
    /// How fast each of them must come in.
    pub uploads: UploadRate,
    /// After a shutdown began: how long new connections and requests are still taken.
    pub shutdown_delay: Duration,
    /// Connections of callers at once, of all and of one address.
    pub connections: Connections,
    /// Hosts on private addresses may receive webhooks.
    pub webhooks_to_private_hosts: bool,
    /// The receivers of alerts.
    pub alerts: Vec<Receiver>,
}

/// How many connections callers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub most: usize,
    pub per_address: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 256,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            retention: Duration::from_secs(30 * 24 * 3600),
            max_body: 8 << 20,
            max_lines: 5_000_000,
            max_upload: 20 << 30,
            max_uploads: 32,
            uploads: UploadRate::default(),
            shutdown_delay: Duration::from_secs(5),
            connections: Connections { most: 10_000, per_address: 5_000 },
            webhooks_to_private_hosts: false,
            alerts: Vec::new(),
        }
    }
}

/// What the operator asks of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadRate {
    /// Over any window of some seconds.
    pub bytes_per_s: u64,
    /// From its first byte to its last.
    pub deadline: Duration,
}

impl Default for UploadRate {
    fn default() -> Self {
        Self { bytes_per_s: 1 << 10, deadline: Duration::from_secs(6 * 3600) }
    }
}
