//! The gateway: a `tollway serve` process with a configuration of its own.

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    binary::{self, Ran},
    client,
    database::Database,
    polling::until,
    process::{Process, append},
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What a story says of its gateway.
#[derive(Clone)]
pub struct Setup {
    pub slots: usize,
    /// At least 5, with which a busy machine may lose it: for who waits for its end.
    pub lease_s: u64,
    pub drain_s: u64,
    /// Of `[server]`: no load balancer stands before most stories.
    pub shutdown_delay_s: u64,
    /// The most files that the process may have open; `None`: as many as this one.
    pub descriptors: Option<u64>,
    pub roles: &'static str,
    /// Further keys of `[server]`, a line each.
    pub server: &'static str,
    /// Where the database's socket is, when it is not the cluster's own.
    pub socket_dir: Option<PathBuf>,
    /// Further variables of its environment.
    pub variables: Vec<(&'static str, String)>,
    /// Lanes, deployments, routes, teams and prices.
    pub catalog: String,
}

impl Setup {
    pub fn new(catalog: String) -> Self {
        Self {
            slots: 64,
            lease_s: 30,
            drain_s: 20,
            shutdown_delay_s: 0,
            descriptors: None,
            roles: "api,worker,maintenance",
            server: "",
            socket_dir: None,
            variables: Vec::new(),
            catalog,
        }
    }
}

pub struct Gateway {
    pub url: String,
    pub dir: PathBuf,
    config: PathBuf,
    roles: &'static str,
    variables: Vec<(&'static str, String)>,
    descriptors: Option<u64>,
    process: Option<Process>,
}

impl Gateway {
    /// Its files go to the new folder `dir/name`; lake and pepper lie in `dir`, for all replicas.
    pub async fn start(dir: &Path, name: &str, db: &Database, setup: &Setup) -> Self {
        let home = dir.join(name);
        std::fs::create_dir(&home).expect("the replica is new");
        let port = free_port();
        let config = home.join("tollway.toml");
        let database = db.url(setup.socket_dir.as_deref());
        std::fs::write(home.join("database"), database).expect("the folder is ours");
        std::fs::write(dir.join("pepper"), PEPPER).expect("the folder is ours");
        std::fs::write(&config, text(dir, &home, port, setup)).expect("the folder is ours");
        let url = format!("http://127.0.0.1:{port}");
        let (roles, variables) = (setup.roles, setup.variables.clone());
        let descriptors = setup.descriptors;
        let mut gateway = Self { url, dir: home, config, roles, variables, descriptors, process: None };
        gateway.restart().await;
        gateway
    }

    /// Starts it, which is not running, and waits until it is ready.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let mut command = match self.descriptors {
            Some(most) => binary::command_with(most),
            None => binary::command(),
        };
        command.arg("--config").arg(&self.config).args(["serve", "--role", self.roles]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.dir).stdout(append(&self.log_path()));
        let said_before = self.log().len();
        let process = self.process.insert(Process::start(&mut command, &self.log_path(), "KILL"));
        if !self.roles.contains("api") {
            let ready = async || process.log()[said_before..].contains("Working, without an API").then_some(());
            return until("a gateway at work", START_TIMEOUT, ready).await;
        }
        let url = self.url.clone();
        until("a gateway that is ready", START_TIMEOUT, async || {
            if let Some(status) = process.ended() {
                panic!("the gateway ended with {status} instead of starting:\n{}", process.log());
            }
            (probe(&url, "/readyz").await == Some(200)).then_some(())
        })
        .await;
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("it is running").kill9();
    }

    /// Asks it to end and waits for that.
    pub fn sigterm(&mut self) -> ExitStatus {
        self.process.take().expect("it is running").end(Signal::SIGTERM, STOP_TIMEOUT)
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it is running").signal(signal);
    }

    /// Whether it has ended after a signal, and well.
    pub fn has_ended(&mut self) -> bool {
        let status = self.process.as_mut().expect("it was started").ended();
        status.inspect(|status| assert!(status.success(), "it ended with {status}")).is_some()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Fails the test when it has ended by itself.
    pub fn assert_runs(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        if let Some(status) = process.ended() {
            panic!("the gateway ended by itself: {status}, signal {:?}", status.signal());
        }
    }

    /// Changes its configuration file; it is not told.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let before = std::fs::read_to_string(&self.config).expect("the file is ours");
        std::fs::write(&self.config, change(before)).expect("the file is ours");
    }

    pub async fn status(&self, path: &str) -> Option<u16> {
        probe(&self.url, path).await
    }

    /// All that it logged, over restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The greatest memory it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.process.as_ref().expect("it is running").pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// A command beside the gateway, with its configuration and with `key` for its API.
    pub fn command(&self, key: &str, args: &[&str]) -> Command {
        let mut command = binary::command();
        command.args(args).env("TOLLWAY_CONFIG", &self.config).env("TOLLWAY_URL", &self.url);
        command.env("TOLLWAY_API_KEY", key).env("TOLLWAY_PROFILE", self.dir.join("no-profile"));
        command.current_dir(&self.dir);
        command
    }

    pub async fn run(&self, key: &str, args: &[&str]) -> Ran {
        binary::run(self.command(key, args)).await
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }
}

/// Under which keys are hashed and webhooks signed, as the file holds it.
pub const PEPPER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

fn text(dir: &Path, home: &Path, port: u16, setup: &Setup) -> String {
    let (dir, home) = (dir.display(), home.display());
    let Setup { slots, lease_s, drain_s, shutdown_delay_s, server, catalog, .. } = setup;
    format!(
        "[server]
listen = '127.0.0.1:{port}'
shutdown_delay_s = {shutdown_delay_s}
{server}
[database]
url = 'file:{home}/database'
[worker]
slots = {slots}
lease_s = {lease_s}
drain_s = {drain_s}
[lake]
url = '{dir}/lake'
[webhooks]
allow_private_hosts = true
[secrets]
pepper = 'file:{dir}/pepper'
{catalog}"
    )
}

/// The status of an answer; `None` without one.
async fn probe(url: &str, path: &str) -> Option<u16> {
    let request = client::http().get(format!("{url}{path}")).timeout(Duration::from_secs(5));
    Some(request.send().await.ok()?.status().as_u16())
}

/// Below the ports that outgoing connections get, so that it is still free after a restart.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
