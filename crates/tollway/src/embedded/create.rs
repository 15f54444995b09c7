//! Makes a new cluster beside its final place and moves it there when it is whole, so that a start that was killed leaves
//! nothing half-made in the way.

use std::{
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process::{Output, Stdio},
};

use anyhow::{Context, bail};
use rand::RngExt;
use tokio::io::AsyncWriteExt;

use super::site::{DATABASE, SUPERUSER, Site};

const STAGING: &str = "postgres.new-";

pub async fn create(site: &Site) -> anyhow::Result<()> {
    remove_leftovers(&site.root);
    let staging = site.root.join(format!("{STAGING}{:08x}", rand::random::<u32>()));
    let made = fill(site, &staging).await;
    if made.is_err() {
        // The error is what matters; a leftover goes at the next start.
        let _ = std::fs::remove_dir_all(&staging);
    }
    made?;
    std::fs::rename(&staging, &site.cluster)?;
    std::fs::File::open(&site.root)?.sync_all()?;
    Ok(())
}

async fn fill(site: &Site, staging: &Path) -> anyhow::Result<()> {
    let data = staging.join("data");
    let password = staging.join("password");
    let private = |dir: &Path| std::fs::DirBuilder::new().mode(0o700).create(dir);
    private(staging)?;
    private(&staging.join("run"))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&password)?;
    writeln!(file, "{}", new_password())?;
    file.sync_all()?;
    for path in [&password, &staging.join("run"), staging] {
        site.give(path)?;
    }
    let initdb = site
        .command("initdb")
        .arg("-D")
        .arg(&data)
        .arg("--pwfile")
        .arg(&password)
        .args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--data-checksums"])
        .args(["--encoding", "UTF8", "--locale", "C", "--no-instructions"])
        .output()
        .await
        .context("cannot run initdb")?;
    expect_success("initdb", &initdb)?;
    make_database(site, &data).await
}

/// By a server of a single user, because the new one does not run yet.
async fn make_database(site: &Site, data: &Path) -> anyhow::Result<()> {
    let mut postgres = site
        .command("postgres")
        .args(["--single", "-c", "exit_on_error=true", "-D"])
        .arg(data)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run postgres --single")?;
    let mut stdin = postgres.stdin.take().context("postgres --single has no input")?;
    stdin.write_all(format!("create database {DATABASE}\n").as_bytes()).await?;
    drop(stdin);
    expect_success("postgres --single", &postgres.wait_with_output().await?)
}

fn expect_success(program: &str, output: &Output) -> anyhow::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())
}

fn new_password() -> String {
    let mut rng = rand::rng();
    (0..32).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

fn remove_leftovers(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
