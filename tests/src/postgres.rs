//! A private PostgreSQL cluster on a Unix socket, with fsync on, that can be killed and started again.

use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

use crate::{
    database::Database,
    leash,
    process::{Process, append},
    skew,
};

/// The name of its socket's file.
pub const SOCKET: &str = ".s.PGSQL.5432";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Postgres {
    dir: PathBuf,
    programs: PathBuf,
    /// Root cannot run it.
    owner: Option<User>,
    /// Of its environment.
    variables: Vec<(&'static str, String)>,
    process: Mutex<Option<Process>>,
    databases: AtomicU32,
    /// Removed with it.
    _folder: Option<TempDir>,
}

impl Postgres {
    /// The one that all tests of this run share. It ends with the run.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Postgres>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| {
            let dir = folder().keep();
            Arc::new(Self::create(dir, None, Vec::new()))
        }))
    }

    /// One that its test may kill.
    pub fn own() -> Arc<Self> {
        let folder = folder();
        Arc::new(Self::create(folder.path().to_owned(), Some(folder), Vec::new()))
    }

    /// One whose clock says that a full hour is so many seconds away. All times of a gateway are its database's.
    pub fn before_the_hour(seconds: i64) -> Arc<Self> {
        let folder = folder();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs() as i64;
        let variables = skew::variables(folder.path(), (-now - seconds).rem_euclid(3_600));
        Arc::new(Self::create(folder.path().to_owned(), Some(folder), variables))
    }

    fn create(dir: PathBuf, folder: Option<TempDir>, variables: Vec<(&'static str, String)>) -> Self {
        let cluster = Self {
            programs: programs(),
            owner: geteuid().is_root().then(owner),
            variables,
            process: Mutex::default(),
            databases: AtomicU32::new(0),
            dir,
            _folder: folder,
        };
        if let Some(user) = &cluster.owner {
            chown(&cluster.dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root can give folders away");
        }
        let made = cluster
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-k", "-N", "-E", "UTF8", "--locale=C", "-D"])
            .arg(cluster.data())
            .stdout(append(&cluster.log()))
            .stderr(append(&cluster.log()))
            .status()
            .expect("initdb starts");
        assert!(made.success(), "initdb failed:\n{}", std::fs::read_to_string(cluster.log()).unwrap_or_default());
        cluster.start();
        cluster
    }

    /// Starts it and waits until it takes connections, crash recovery included.
    pub fn start(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut command = self.command("postgres");
            command.arg("-D").arg(self.data()).arg("-k").arg(&self.dir).stdout(append(&self.log()));
            for setting in
                ["listen_addresses=", "fsync=on", "max_connections=250", "shared_buffers=128MB", "max_wal_size=4GB"]
            {
                command.args(["-c", setting]);
            }
            let mut process = Process::start(&mut command, &self.log(), "INT");
            // It ends at once while a backend of its predecessor still holds the shared memory.
            while process.ended().is_none() {
                if self.is_ready(process.pid()) {
                    *self.process() = Some(process);
                    return;
                }
                assert!(Instant::now() < deadline, "PostgreSQL did not start within {START_TIMEOUT:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(Instant::now() < deadline, "PostgreSQL did not start within {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// kill -9 of the postmaster and of every process it had.
    pub fn kill9(&self) {
        let mut process = self.process().take().expect("it runs");
        let backends = children(process.pid());
        process.kill9();
        for backend in backends {
            let _ = kill(Pid::from_raw(backend), Signal::SIGKILL);
        }
    }

    /// A new, empty database.
    pub async fn database(self: &Arc<Self>, story: &str) -> Database {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let letters: String = story.chars().filter(char::is_ascii_alphanumeric).take(30).collect();
        Database::create(Arc::clone(self), &format!("t{n}_{}", letters.to_lowercase())).await
    }

    /// Where its socket is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn url(&self, database: &str) -> String {
        url_at(&self.dir, database)
    }

    /// As `pg_ctl` tells it: by the last line of the file in which the postmaster writes how far it is.
    fn is_ready(&self, pid: u32) -> bool {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.dir).env_remove("PGOPTIONS").env_remove("PGPORT").env_remove("PGHOST");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(user) = &self.owner {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let process = self.process().take();
        if let Some(mut process) = process
            && process.ended().is_none()
        {
            process.end(Signal::SIGINT, STOP_TIMEOUT);
        }
    }
}

/// The database behind the socket in `dir`.
pub fn url_at(dir: &Path, database: &str) -> String {
    format!("postgres://postgres@localhost/{database}?host={}", dir.display())
}

/// One that PostgreSQL's user can enter. Its path is short: a socket's has at most 107 bytes.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("tollway-e2e-pg-").tempdir_in("/tmp").expect("/tmp takes a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    leash::remove_at_end(folder.path());
    folder
}

fn owner() -> User {
    let find = |name| User::from_name(name).ok().flatten();
    find("postgres").or_else(|| find("nobody")).expect("root cannot run PostgreSQL, and there is no user to run it as")
}

/// Where its programs are: on the PATH, else the newest of Debian's.
fn programs() -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let initdb = std::env::split_paths(&paths).map(|dir| dir.join("initdb")).find(|program| program.is_file());
    // The others lie beside the real one.
    let on_path = initdb.and_then(|link| Some(link.canonicalize().ok()?.parent()?.to_owned()));
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = versions.flatten().map(|entry| entry.path()).max_by_key(|path| number(path))?.join("bin");
        newest.join("initdb").is_file().then_some(newest)
    };
    on_path.or_else(debian).expect("PostgreSQL's initdb was not found; on Debian: apt-get install postgresql")
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> Vec<i32> {
    let parent_of = |pid: i32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name stands in brackets and may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").expect("/proc can be read");
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|child| parent_of(*child) == Some(pid)).collect()
}
