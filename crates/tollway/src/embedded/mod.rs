//! A private PostgreSQL cluster for `tollway dev`, run from the machine's own binaries. It outlives a killed `dev` and is
//! taken over by the next one. Durable like any cluster (fsync and checksums on), but not meant for production: nobody
//! backs it up.
//!
//! Under the given folder: `lock` (held by the one `dev` that uses it), `postgres.conf` (rewritten at every start), and
//! `postgres/`, which belongs to the user that PostgreSQL runs as, with `data/`, `run/` (the socket), `password`, `log`.

mod binaries;
mod create;
mod lock;
mod owner;
mod postmaster;
mod settings;
mod site;
mod supervise;
mod up;

use std::{fs::File, path::Path, sync::Arc};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use site::Site;
pub use site::make_root;

/// How the cluster came to be running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made just now.
    Created,
    /// It was there, and was started.
    Started,
    /// It was running, left behind by a process that was killed.
    Adopted,
}

/// A running cluster, watched: a postmaster that dies is started again. Dropping this leaves the cluster running for the
/// next [`start`]; only [`Cluster::stop`] ends it.
#[derive(Debug)]
pub struct Cluster {
    site: Arc<Site>,
    url: String,
    origin: Origin,
    release: CancellationToken,
    supervisor: JoinHandle<()>,
    _lock: File,
}

/// Makes the cluster if need be, starts or adopts it, and keeps it running.
///
/// # Errors
/// No PostgreSQL on this machine, another `dev` in the same folder, a folder that PostgreSQL's user cannot enter, data of
/// another major version, or what PostgreSQL itself said; the text says what to do.
pub async fn start(data_dir: &Path, bin_dir: Option<&Path>) -> anyhow::Result<Cluster> {
    make_root(data_dir)?;
    let lock = lock::take(data_dir)?;
    let site = Site::find(data_dir, bin_dir).await?;
    let created = !site.data.exists();
    if created {
        create::create(&site).await.context("cannot create the embedded database")?;
    }
    let password = std::fs::read_to_string(&site.password)
        .with_context(|| format!("cannot read the embedded database's password from {}", site.password.display()))?;
    let up = up::bring_up(&site).await?;
    let site = Arc::new(site);
    let release = CancellationToken::new();
    let supervisor = tokio::spawn(supervise::supervise(Arc::clone(&site), up.pid, release.clone()));
    let origin = match (created, up.adopted) {
        (true, _) => Origin::Created,
        (false, true) => Origin::Adopted,
        (false, false) => Origin::Started,
    };
    Ok(Cluster { url: site.url(password.trim()), site, origin, release, supervisor, _lock: lock })
}

impl Cluster {
    /// For sqlx and psql, password included: show it to nobody.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Ends it by a fast shutdown: connections are closed, everything is on disk.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.release.cancel();
        // It either sleeps or is starting a postmaster; in both cases it comes to an end.
        let _ = self.supervisor.await;
        up::shut_down(&self.site).await?;
        self.site.clean_up();
        Ok(())
    }
}
