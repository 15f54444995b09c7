//! Where things of this user are kept.

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::unistd::{User, geteuid};

/// Databases, lakes and secrets of `tollway dev`: `TOLLWAY_DATA`, else `/var/lib/tollway` for root (the database runs as
/// another user, who cannot enter /root), else `~/.local/share/tollway`.
pub fn data_dir() -> PathBuf {
    if let Some(dir) = variable("TOLLWAY_DATA") {
        return dir;
    }
    if geteuid().is_root() {
        return "/var/lib/tollway".into();
    }
    variable("XDG_DATA_HOME").unwrap_or_else(|| home().join(".local/share")).join("tollway")
}

/// `TOLLWAY_PROFILE`, else `~/.config/tollway/profile.toml`.
pub fn profile() -> PathBuf {
    variable("TOLLWAY_PROFILE").unwrap_or_else(|| {
        variable("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config")).join("tollway/profile.toml")
    })
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let staged = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&staged);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&staged, path)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn home() -> PathBuf {
    variable("HOME")
        .or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))
        .unwrap_or_else(|| "/".into())
}
