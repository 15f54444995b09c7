//! Where a cluster's things are, and how its programs are run.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use tokio::process::Command;

use super::{
    binaries::{self, Binaries},
    owner::{self, Owner},
};

/// Only names the socket's file: nothing listens on TCP.
pub const PORT: u16 = 5432;
pub const SUPERUSER: &str = "tollway";
pub const DATABASE: &str = "tollway";
/// What fits into a socket's address, with the final zero.
const SOCKET_PATH_MAX: usize = 108;

#[derive(Debug)]
pub struct Site {
    pub root: PathBuf,
    pub conf: PathBuf,
    pub cluster: PathBuf,
    pub data: PathBuf,
    pub run: PathBuf,
    pub log: PathBuf,
    pub password: PathBuf,
    pub binaries: Binaries,
    /// `None`: PostgreSQL runs as the user we are.
    pub owner: Option<Owner>,
}

/// The folder given by the user. What is made here can be entered by PostgreSQL's user whatever the umask says.
pub fn make_root(root: &Path) -> anyhow::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(root)
        .and_then(|()| std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)))
        .with_context(|| {
            format!("cannot make {}; choose another folder with --data DIR or TOLLWAY_DATA", root.display())
        })
}

impl Site {
    pub async fn find(root: &Path, bin_dir: Option<&Path>) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("cannot look at {}", root.display()))?;
        // Its place on disk may be reached through links; processes are told apart by where they really are.
        let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let cluster = real(root.join("postgres"));
        let data = real(cluster.join("data"));
        let owner = owner::of(&data)?;
        if let Some(owner) = &owner {
            owner::check_way(&root, owner)?;
        }
        let (bin_dir, made_by) = (bin_dir.map(Path::to_owned), major_of_data(&data)?);
        let binaries = tokio::task::spawn_blocking(move || binaries::find(bin_dir.as_deref(), made_by)).await??;
        let run = run_dir(&cluster, owner.as_ref())?;
        Ok(Self {
            conf: root.join("postgres.conf"),
            log: cluster.join("log"),
            password: cluster.join("password"),
            root,
            cluster,
            data,
            run,
            binaries,
            owner,
        })
    }

    /// One of PostgreSQL's programs, as its user, without our environment (it may hold secrets) and out of reach of the
    /// terminal's Ctrl-C.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.dir.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(owner) = &self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command.as_std_mut().process_group(0);
        command.stdin(Stdio::null());
        command
    }

    pub fn url(&self, password: &str) -> String {
        let host: String = self.run.as_os_str().as_bytes().iter().fold(String::new(), |mut host, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => host.push(char::from(*byte)),
                other => host.push_str(&format!("%{other:02X}")),
            }
            host
        });
        format!("postgres://{SUPERUSER}:{password}@{host}:{PORT}/{DATABASE}")
    }

    /// Takes away a socket's folder that could not be beside the data; nothing is in it once the server ended.
    pub fn clean_up(&self) {
        if !self.run.starts_with(&self.cluster) {
            let _ = std::fs::remove_dir(&self.run);
        }
    }

    pub fn give(&self, path: &Path) -> anyhow::Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
            .with_context(|| format!("cannot give {} to user {}", path.display(), owner.name))
    }
}

fn major_of_data(data: &Path) -> anyhow::Result<Option<u32>> {
    let path = data.join("PG_VERSION");
    if !data.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let major = text.trim().parse().with_context(|| format!("{} does not hold a version", path.display()))?;
    Ok(Some(major))
}

/// Beside the data; in the temporary folder when that path is too long for a socket.
fn run_dir(cluster: &Path, owner: Option<&Owner>) -> anyhow::Result<PathBuf> {
    let beside = cluster.join("run");
    let fits = |dir: &Path| dir.as_os_str().len() + format!("/.s.PGSQL.{PORT}").len() < SOCKET_PATH_MAX;
    if fits(&beside) {
        return Ok(beside);
    }
    let mut hasher = DefaultHasher::new();
    cluster.hash(&mut hasher);
    let short = Path::new("/tmp").join(format!("tollway-{:016x}", hasher.finish()));
    let uid = owner.map_or_else(|| nix::unistd::geteuid().as_raw(), |owner| owner.uid);
    match std::fs::DirBuilder::new().mode(0o700).create(&short) {
        Ok(()) => {
            let gid = owner.map(|owner| owner.gid);
            std::os::unix::fs::lchown(&short, Some(uid), gid)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", short.display())),
    }
    // /tmp is everybody's: somebody else may have made it first, to listen in our place.
    let meta = short.symlink_metadata()?;
    if !meta.is_dir() || meta.uid() != uid || meta.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} is too long for a socket, and {} is not ours alone; choose a shorter folder with --data DIR",
            beside.display(),
            short.display()
        );
    }
    Ok(short)
}
