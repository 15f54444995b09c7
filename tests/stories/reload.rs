//! SIGHUP: a changed file is applied while everything runs, as a start would.

use e2e::{SOON, Setup, World, catalog, requests, until};
use nix::sys::signal::Signal;
use serde_json::json;

const NIGHT: &str = "
[lanes.standard]
class = 'weighted'
[lanes.night]
class = 'weighted'
";

async fn hangup(world: &World, what: &str) {
    let before = world.gateway.log().len();
    world.gateway.signal(Signal::SIGHUP);
    let said = async || world.gateway.log()[before..].contains(what).then_some(());
    until(&format!("the log to say {what:?}"), SOON, said).await;
}

#[tokio::test]
async fn a_changed_file_is_applied_and_a_bad_one_changes_nothing() {
    let world = World::start("reload", |simulator| Setup { slots: 8, ..Setup::new(catalog::one(simulator, "")) }).await;
    let _replica = world.replica("replica", &world.setup).await;
    let id = world.admin.submit("", requests::chat(2_000)).await;
    world.simulator.set_latency("only", 20).await;
    let more = catalog::deployment(&world.simulator, "other", "sim-chat", "") + &catalog::route("more", &["other"]);
    let more = more + "[teams.search]\nslots = 3\nweight = 2\n";
    world.gateway.edit(|file| file.replace("slots = 8", "slots = 9") + &more);
    hangup(&world, "The configuration was read again").await;
    world.admin.chat(requests::chat_body("more", 1)).await.expect(200);
    let limits = world.admin.get("/api/v1/limits").await.expect(200).json();
    let is_set =
        limits["data"].as_array().expect("a list").iter().any(|l| l["scope"] == "team:search" && l["cap"] == 3);
    assert!(is_set, "{limits}");
    assert!(world.gateway.log().contains("worker.slots"), "{}", world.gateway.log());
    let audit = world.admin.get("/api/v1/audit?object=config").await.expect(200).json();
    let changed = audit["data"][0]["details"]["changed"].to_string();
    assert!(changed.contains("routes.more") && changed.contains("teams.search"), "{audit}");

    let versions = world.db.number("select count(*) from config_version").await;
    for (bad, reason) in [
        ("[teams.search]\nslots = 3\n[teams.search.lanes.bulk]\nslots = 4\n", "more than the 3 of the whole team"),
        ("[lanes.a]\nclass = 'strict'\nreserve_percent = 95\n", "add up to 95 %"),
        ("[routes.none]\ndeployments = ['nowhere']\n", "nowhere"),
        ("[teams", "tollway.toml:"),
    ] {
        world.gateway.edit(|file| file.replace(&more, bad));
        hangup(&world, "nothing is changed").await;
        assert!(world.gateway.log().contains(reason), "{bad}: {}", world.gateway.log());
        world.gateway.edit(|file| file.replace(bad, &more));
    }
    assert_eq!(world.db.number("select count(*) from config_version").await, versions);
    world.admin.chat(requests::chat_body("more", 1)).await.expect(200);
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 2_000, "{job}");
    world.check().await;
}

/// Who tidies up a file strands nobody's job.
#[tokio::test]
async fn a_lane_that_is_removed_from_the_file_serves_what_is_in_it() {
    let setup = |simulator: &_| Setup { slots: 4, ..Setup::new(catalog::one(simulator, "") + NIGHT) };
    let world = World::start("closing", setup).await;
    world.simulator.set_latency("only", 20).await;
    let caller = world.key("search", json!({"lanes": ["standard", "night"]})).await;
    let id = caller.submit("?lane=night", requests::chat(1_000)).await;
    world.simulator.has_seen(8).await;
    world.gateway.edit(|file| file.replace("[lanes.night]\nclass = 'weighted'\n", ""));
    hangup(&world, "The configuration was read again").await;

    let refused = caller.post("/api/v1/jobs?lane=night", requests::chat(1)).await.expect(422).json();
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("is closed")), "{refused}");
    let call = caller.request(reqwest::Method::POST, "/v1/chat/completions").header("x-tollway-lane", "night");
    let call = e2e::client::send(call.body(requests::chat_body("chat", 1))).await.expect(403).text();
    assert!(call.contains("is closed"), "{call}");
    let shown = world.gateway.run(&world.admin.key, &["lanes"]).await.expect(0).stdout;
    assert!(shown.lines().any(|line| line.contains("night") && line.contains("closing")), "{shown}");

    // Also under a start: what is in it is served to its end.
    let mut world = world;
    assert!(world.gateway.sigterm().success());
    world.gateway.restart().await;
    let job = caller.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 1_000, "{job}");
    let shown = world.gateway.run(&world.admin.key, &["lanes"]).await.expect(0).stdout;
    assert!(!shown.contains("night"), "{shown}");
    world.check().await;
}
