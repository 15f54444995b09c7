//! The cluster's configuration file, written anew at every start. Durability is never traded away here.

use std::{os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;

use super::site::Site;

pub async fn write(site: &Site) -> anyhow::Result<()> {
    // Not every build has lz4, and an unknown value would keep the server from starting.
    let compression = if takes(site, "wal_compression=lz4").await { "lz4" } else { "on" };
    std::fs::write(&site.conf, text(&site.run, compression))
        .and_then(|()| std::fs::set_permissions(&site.conf, std::fs::Permissions::from_mode(0o644)))
        .with_context(|| format!("cannot write {}", site.conf.display()))
}

async fn takes(site: &Site, setting: &str) -> bool {
    let asked =
        site.command("postgres").arg("-D").arg(&site.data).args(["-c", setting, "-C", "wal_compression"]).output();
    asked.await.is_ok_and(|answer| answer.status.success())
}

fn text(run: &Path, wal_compression: &str) -> String {
    let run = run.display().to_string().replace('\'', "''");
    format!(
        "# Written by `tollway dev` at every start; changes here are lost.\n\
         listen_addresses = ''\n\
         unix_socket_directories = '\"{run}\"'\n\
         unix_socket_permissions = 0700\n\
         password_encryption = 'scram-sha-256'\n\
         max_connections = 200\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         \n\
         # What was acknowledged is on disk.\n\
         fsync = on\n\
         synchronous_commit = on\n\
         full_page_writes = on\n\
         \n\
         shared_buffers = '256MB'\n\
         wal_buffers = '16MB'\n\
         max_wal_size = '4GB'\n\
         min_wal_size = '512MB'\n\
         checkpoint_timeout = '15min'\n\
         wal_compression = {wal_compression}\n\
         random_page_cost = 1.1\n\
         jit = off\n\
         \n\
         # Rows may hold prompts: the log tells which error happened, never with which data.\n\
         log_statement = 'none'\n\
         log_min_error_statement = 'panic'\n\
         log_error_verbosity = 'terse'\n\
         log_checkpoints = off\n\
         log_line_prefix = '%m [%p] '\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_quote_stays_one_value() {
        let conf = text(Path::new("/tmp/it's, here"), "lz4");
        assert!(conf.contains("unix_socket_directories = '\"/tmp/it''s, here\"'\n"), "{conf}");
        assert!(conf.lines().all(|line| !line.starts_with(' ')), "{conf}");
    }
}
