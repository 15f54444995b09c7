//! A replica that Postgres cannot be reached from: it stops claiming and stops spending before its lease ends, and others go
//! on with what it held.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Client, Postgres, SOON, Setup, World, catalog, proxy::Proxy, requests, until};

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_micros() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_spends_nothing_once_its_lease_has_ended() {
    let proxy = Proxy::start(&Postgres::shared());
    let setup =
        |simulator: &_| Setup { roles: "api,maintenance", lease_s: 5, ..Setup::new(catalog::one(simulator, "")) };
    let world = World::start("parted", setup).await;
    world.simulator.set_latency("only", 200).await;
    let worker =
        Setup { roles: "api,worker", socket_dir: Some(proxy.dir().to_owned()), slots: 16, ..world.setup.clone() };
    let mut cut_off = world.replica("cut-off", &worker).await;
    let caller: Client = world.admin.at(&cut_off.url);
    let id = world.admin.submit("", requests::chat(1_000)).await;
    world.simulator.has_seen(100).await;

    proxy.part();
    let (parted, parted_us) = (Instant::now(), now_us());
    // Calls of its own are let in as long as its lease is good, and answered only once they are booked.
    let refused = async || (caller.chat(requests::chat_body("chat", 1)).await.status == 503).then_some(());
    until("callers to be refused", SOON, refused).await;
    assert_eq!(cut_off.status("/readyz").await, Some(503));
    assert_eq!(cut_off.status("/livez").await, Some(200));
    let taken = "select count(*) from lease";
    until("what it held to be returned", SOON, async || (world.db.number(taken).await == 0).then_some(())).await;
    // The lease, and for how long it may hold locks in the middle of a transaction.
    let patience = Duration::from_secs(worker.lease_s + 10 + 15);
    assert!(parted.elapsed() < patience, "it took {:?}", parted.elapsed());
    let last = world.simulator.journal().await.iter().map(|call| call.arrived_us).max().unwrap_or(0);
    let lease_us = worker.lease_s * 1_000_000;
    assert!(last < parted_us + lease_us, "it called {} µs after it was cut off", last - parted_us);
    let calls = world.simulator.calls().await;
    for n in 0..5 {
        caller.chat(requests::chat_body("chat", n)).await.expect(503);
    }
    assert_eq!(world.simulator.calls().await, calls, "it still spends");

    let direct = Setup { socket_dir: None, ..worker };
    let _other = world.replica("other", &direct).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 1_000, "{job}");
    proxy.heal();
    let served = async || (caller.chat(requests::chat_body("chat", 7)).await.status == 200).then_some(());
    until("it to serve again", SOON, served).await;
    let id = world.admin.submit("", requests::chat(50)).await;
    world.admin.ended(&id).await;
    cut_off.assert_runs();
    assert_eq!(world.admin.job(&id).await["counts"]["succeeded"], 50);
    world.check().await;
}
