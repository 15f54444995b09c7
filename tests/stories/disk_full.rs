//! The disk is full while Parquet is written: nothing partial is visible, the rows stay, and the next export catches up.

use e2e::{Setup, World, catalog, requests};

/// Mounts a tiny disk over the lake that only this shell sees, exports into it, and tells what is visible there.
const EXPORT: &str = r#"
mount -t tmpfs -o size=128k,mode=755 tmpfs "$LAKE" || exit 99
"$TOLLWAY" lake export
echo "exit $?"
find "$LAKE" -type f -name '*.parquet' -not -path '*/_*'
"#;
const MAY_NOT_MOUNT: i32 = 99;

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    // Without maintenance, so that nothing is exported but by the commands below.
    let setup = |simulator: &_| Setup { roles: "api,worker", ..Setup::new(catalog::usual(simulator, "")) };
    let world = World::start("disk_full", setup).await;
    let id = world.admin.submit("", requests::chat(6_000)).await;
    world.admin.ended(&id).await;
    let lake = world.dir.path().join("lake");
    // A report says what it is without; also where nothing was exported yet and there is no folder at all.
    let report = ["--output", "json", "report", "spend", "--from", "2000-01-01", "--to", "2100-01-01"];
    let report = world.gateway.run("", &report).await.expect(0).json();
    assert_eq!((&report["total"]["calls"], &report["lake"]["rows_behind"]), (&0.into(), &6_000.into()), "{report}");
    assert!(report["lake"]["behind_since"].is_string(), "{report}");
    let csv = ["--output", "csv", "report", "spend", "--from", "2000-01-01", "--to", "2100-01-01"];
    let csv = world.gateway.run("", &csv).await.expect(0);
    assert!(csv.stderr.contains("this report is without 6,000 ledger rows"), "{}", csv.stderr);
    std::fs::create_dir_all(&lake).expect("the folder is ours");

    let mut shell = std::process::Command::new("unshare");
    shell.args(["-m", "/bin/sh", "-c", EXPORT]).env("LAKE", &lake).env("TOLLWAY", e2e::binary::tollway());
    shell.env("TOLLWAY_CONFIG", world.gateway.dir.join("tollway.toml"));
    let ran = e2e::binary::run(shell).await;
    if ran.code == Some(1) && ran.stdout.is_empty() || ran.code == Some(MAY_NOT_MOUNT) {
        eprintln!("SKIPPED: a full disk needs a mount namespace, which is not permitted here: {}", ran.stderr.trim());
        return;
    }
    let ran = ran.expect(0);
    assert_eq!(ran.stdout.trim(), "exit 1", "{}", ran.stderr);
    assert!(ran.stderr.to_lowercase().contains("space"), "{}", ran.stderr);
    assert_eq!(world.db.number("select count(*) from ledger").await, 6_000);
    assert_eq!(world.db.number("select count(*) from segment where published_at is not null").await, 0);

    world.check().await;
}
