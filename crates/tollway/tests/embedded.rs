//! The embedded database with real processes: made, stopped, left behind, killed, and found again.

// The module stands alone, so that these tests need not link the whole gateway.
#[path = "../src/embedded/mod.rs"]
mod embedded;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use embedded::{Cluster, Origin};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection, PgConnection};

/// A folder that PostgreSQL's user can reach, gone at the end.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("tollway-embedded-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A process that another test starts has all open files of ours for a moment, and with them a lock that was let go here.
async fn start(dir: &Path) -> Cluster {
    let ours = format!("in use by process {},", std::process::id());
    for _ in 0..100 {
        match embedded::start(dir, None).await {
            Err(error) if format!("{error:#}").contains(&ours) => tokio::time::sleep(Duration::from_millis(50)).await,
            started => return started.unwrap(),
        }
    }
    panic!("{ours} for 5 s");
}

async fn refused(dir: &Path) -> String {
    format!("{:#}", embedded::start(dir, None).await.expect_err("refused"))
}

async fn value(url: &str, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar::<_, String>(sql).fetch_one(&mut connection).await.unwrap()
}

async fn run(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
}

fn postmaster(dir: &Path) -> Pid {
    let text = std::fs::read_to_string(dir.join("postgres/data/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_new_cluster_is_durable_private_and_keeps_its_data() {
    let dir = folder();
    let cluster = start(dir.path()).await;
    assert_eq!(cluster.origin(), Origin::Created);
    let url = cluster.url().to_owned();
    for (sql, expected) in [
        ("show fsync", "on"),
        ("show synchronous_commit", "on"),
        ("show full_page_writes", "on"),
        ("show data_checksums", "on"),
        ("show listen_addresses", ""),
        ("show max_wal_size", "4GB"),
        ("show server_encoding", "UTF8"),
        ("show log_min_error_statement", "panic"),
        ("select current_database()::text", "tollway"),
    ] {
        assert_eq!(value(&url, sql).await, expected, "{sql}");
    }
    let password = url.split(['@', ':']).nth(2).unwrap();
    assert!(PgConnection::connect(&url.replace(password, "wrong")).await.is_err(), "the password is not asked for");
    let mode = |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("postgres"), mode("postgres/password")), (0o700, 0o600));

    run(&url, "create table kept (what text)").await;
    run(&url, "insert into kept values ('still here')").await;
    cluster.stop().await.unwrap();
    assert!(!dir.path().join("postgres/data/postmaster.pid").exists(), "it was not shut down");

    let again = start(dir.path()).await;
    assert_eq!((again.origin(), again.url()), (Origin::Started, url.as_str()));
    assert_eq!(value(&url, "select what from kept").await, "still here");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_whose_dev_was_killed_is_adopted() {
    let dir = folder();
    let mut dev = Dev::start(dir.path(), &[]);
    assert_eq!(dev.origin, "Created");
    run(&dev.url, "create table kept as select 'still here' what").await;
    let pid = postmaster(dir.path());

    let said = refused(dir.path()).await;
    assert!(said.contains(&format!("in use by process {}", dev.child.id())), "{said}");

    dev.kill();
    let cluster = start(dir.path()).await;
    assert_eq!((cluster.origin(), postmaster(dir.path())), (Origin::Adopted, pid));
    assert_eq!(value(cluster.url(), "select what from kept").await, "still here");
    cluster.stop().await.unwrap();
    assert!(kill(pid, None).is_err() || is_zombie(pid), "the adopted postmaster outlived stop");
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again() {
    let dir = folder();
    let cluster = start(dir.path()).await;
    run(cluster.url(), "create table kept as select 'still here' what").await;
    for _ in 0..2 {
        let before = postmaster(dir.path());
        kill(before, Signal::SIGKILL).unwrap();
        let killed = Instant::now();
        let found = loop {
            if let Ok(mut connection) = PgConnection::connect(cluster.url()).await
                && let Ok(what) =
                    sqlx::query_scalar::<_, String>("select what from kept").fetch_one(&mut connection).await
                && postmaster(dir.path()) != before
            {
                break what;
            }
            assert!(killed.elapsed() < Duration::from_secs(60), "it did not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(found, "still here");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_postmaster_left_does_not_keep_the_next_from_starting() {
    let dir = folder();
    let mut dev = Dev::start(dir.path(), &[]);
    run(&dev.url, "create table kept as select 'still here' what").await;
    // A backend that is busy when its postmaster dies is in the next one's way for a while.
    let url = dev.url.clone();
    let busy = tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let _ = sqlx::query("select pg_sleep(600)").execute(&mut connection).await;
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    dev.kill();
    kill(postmaster(dir.path()), Signal::SIGKILL).unwrap();

    let cluster = start(dir.path()).await;
    assert_eq!(cluster.origin(), Origin::Started);
    assert_eq!(value(cluster.url(), "select what from kept").await, "still here");
    busy.abort();
    let file = dir.path().join("postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(&file).unwrap();
    cluster.stop().await.unwrap();

    // The dead one's process id now belongs to somebody else: to us.
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let cluster = start(dir.path()).await;
    assert_eq!(cluster.origin(), Origin::Started);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_postmaster_that_is_shutting_down_is_waited_for() {
    let dir = folder();
    let mut dev = Dev::start(dir.path(), &[]);
    let guest = PgConnection::connect(&dev.url).await.unwrap();
    let before = postmaster(dir.path());
    dev.kill();
    // Smart: it waits for its guest to leave.
    kill(before, Signal::SIGTERM).unwrap();
    while !std::fs::read_to_string(dir.path().join("postgres/data/postmaster.pid")).unwrap().contains("stopping") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let path = dir.path().to_owned();
    let next = tokio::spawn(async move { start(&path).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!next.is_finished(), "it did not wait");
    guest.close().await.unwrap();
    let cluster = next.await.unwrap();
    assert_eq!(cluster.origin(), Origin::Started);
    assert_ne!(postmaster(dir.path()), before);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_refused() {
    let dir = folder();
    let data = dir.path().join("postgres/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        std::os::unix::fs::chown(&data, Some(nobody.uid.as_raw()), None).unwrap();
    }
    let said = refused(dir.path()).await;
    assert!(said.contains("made by PostgreSQL 9") && said.contains("pg_dump"), "{said}");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let dir = folder();
    let deep = dir.path().join("it's a folder with spaces/".to_owned() + &"long/".repeat(20));
    std::fs::create_dir_all(&deep).unwrap();
    let cluster = start(&deep).await;
    assert!(cluster.url().contains("@%2Ftmp%2Ftollway-"), "the socket is not in /tmp");
    assert_eq!(value(cluster.url(), "select 'reached'").await, "reached");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn root_is_told_of_a_folder_that_postgres_cannot_enter() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root hands the database to another user");
        return;
    }
    let dir = folder();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let said = refused(&dir.path().join("inside")).await;
    assert!(said.contains("may not enter") && said.contains("--data DIR"), "{said}");
}

#[tokio::test]
async fn an_ordinary_user_needs_no_help() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: all other tests ran as an ordinary user already");
        return;
    }
    let dir = folder();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    std::os::unix::fs::chown(&home, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    // Cargo's target folder may be in a home that others cannot enter.
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", program.to_str().unwrap()];
    let mut dev = Dev::start(&home.join("tollway"), &user);
    assert_eq!(dev.origin, "Created");
    assert_eq!(value(&dev.url, "select current_user::text").await, "tollway");
    dev.kill();
    let dev = Dev::start(&home.join("tollway"), &user);
    assert_eq!(dev.origin, "Adopted");
    dev.stop();
}

/// This very program as another process, which starts a cluster as `tollway dev` does.
struct Dev {
    child: Child,
    stdin: Option<ChildStdin>,
    origin: String,
    url: String,
}

impl Dev {
    /// `program`: what to run, if not this executable as the user we are.
    fn start(dir: &Path, program: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let program: Vec<PathBuf> =
            if program.is_empty() { vec![own] } else { program.iter().map(Into::into).collect() };
        let mut child = Command::new(&program[0])
            .args(&program[1..])
            .args(["--exact", "stands_for_dev", "--ignored", "--nocapture"])
            .env("TOLLWAY_EMBEDDED_DIR", dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let up = lines.find_map(|line| line.split_once("up: ").map(|(_, up)| up.to_owned()));
        let up = up.expect("the other process started its cluster");
        // It has more to say at its end, and would fail if nobody listened.
        std::thread::spawn(move || lines.for_each(drop));
        let (origin, url) = up.split_once(' ').unwrap();
        Self { stdin: child.stdin.take(), child, origin: origin.to_owned(), url: url.to_owned() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        self.stdin.take().unwrap().write_all(b"stop\n").unwrap();
        assert!(self.child.wait().unwrap().success(), "stop failed");
    }
}

#[tokio::test]
#[ignore = "the other process of the tests above"]
async fn stands_for_dev() {
    let Some(dir) = std::env::var_os("TOLLWAY_EMBEDDED_DIR") else { return };
    let cluster = start(Path::new(&dir)).await;
    println!("up: {:?} {}", cluster.origin(), cluster.url());
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    cluster.stop().await.unwrap();
}

fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
