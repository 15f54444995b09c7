//! Quotas: what a team may have waiting, however it is brought in.

use e2e::{SOON, Setup, World, catalog, requests, until};
use futures::future::join_all;
use serde_json::json;

/// Nothing of it runs while the story lasts.
const LATER: &str = "?start_at=2099-01-01T00:00:00Z";

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup::new(catalog::one(simulator, "") + "[teams.small]\npending_requests = 100\n"))
        .await
}

#[tokio::test]
async fn a_full_quota_refuses_with_what_is_used_and_takes_again_what_was_freed() {
    let world = world("quota").await;
    let caller = world.key("small", json!({})).await;
    let alone = caller.post("/api/v1/jobs", requests::chat(101)).await.expect(413).json();
    assert_eq!((&alone["quota"], &alone["limit"]), (&json!("pending_requests"), &json!(100)), "{alone}");
    let first = caller.submit(LATER, requests::chat(70)).await;
    let refused = caller.post("/api/v1/jobs", requests::chat(40)).await.expect(429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!((&refused.json()["used"], &refused.json()["asked"]), (&json!(70), &json!(40)), "{}", refused.text());
    // Nothing is left of what was refused, and another team is not concerned.
    let nothing_left = async || (world.db.number("select count(*) from job").await == 1).then_some(());
    until("the refused uploads to be removed", SOON, nothing_left).await;
    let other = world.admin.submit(LATER, requests::chat(200)).await;

    // An operator raises it, for all replicas at once.
    let limit = json!({"scope": "team:small", "kind": "pending_bytes", "cap": 10});
    world.admin.put("/api/v1/limits", &limit).await.expect(200);
    caller.post("/api/v1/jobs", requests::chat(1)).await.expect(413);
    world.admin.delete("/api/v1/limits?scope=team:small&kind=pending_bytes").await.expect(204);
    for id in [&first, &other] {
        world.admin.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.expect(200);
    }
    let id = caller.submit("", requests::chat(100)).await;
    caller.ended(&id).await;
}

#[tokio::test]
async fn many_uploads_at_once_do_not_pass_it_together() {
    let world = world("quota_at_once").await;
    let replica = world.replica("replica", &world.setup).await;
    let (here, there) = (world.key("small", json!({})).await, world.key("small", json!({})).await.at(&replica.url));
    let uploads = (0..30).map(|n| {
        let caller = if n % 2 == 0 { &here } else { &there };
        async move { caller.post(&format!("/api/v1/jobs{LATER}"), requests::chat(9)).await.status }
    });
    let statuses = join_all(uploads).await;
    let taken = statuses.iter().filter(|status| **status == 202).count();
    // Those that were refused while others were on their way may leave room for one more.
    assert!((8..=11).contains(&taken) && statuses.iter().all(|status| matches!(status, 202 | 429)), "{statuses:?}");
    let accepted = world.db.number("select sum(accepted)::bigint from job where state <> 'uploading'").await;
    assert!(accepted <= 100, "{accepted} of 100");
}
