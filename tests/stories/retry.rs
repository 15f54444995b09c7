//! What failed is looked at by reason and tried again as a new job, once however often it is asked for.

use std::collections::HashSet;

use e2e::{Answer, Setup, World, catalog, requests};
use serde_json::{Value, json};

/// Lines of two models in turn: chat, and each third for embeddings.
fn mixed(count: usize) -> String {
    let line = |n| if n % 3 == 0 { requests::embedding_line(n, "") } else { requests::chat_line(n) };
    (1..=count).map(line).collect()
}

async fn retry(world: &World, id: &str, filter: &Value) -> Answer {
    world.admin.post(&format!("/api/v1/jobs/{id}/retry"), filter.to_string()).await
}

/// A world whose provider refuses a part of all chat requests for good.
async fn refusing(story: &str) -> World {
    let world = World::start(story, |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    for deployment in ["first", "second"] {
        let refuse = json!({"throttle": [{"status": 400, "for_ms": 600_000, "share": 0.4}]});
        world.simulator.set(deployment, refuse).await;
    }
    world
}

async fn mend(world: &World) {
    for deployment in ["first", "second"] {
        world.simulator.set(deployment, json!({"throttle": null})).await;
    }
}

#[tokio::test]
async fn what_failed_is_tried_again_as_a_new_job() {
    let world = refusing("retry").await;
    let id = world.admin.submit("?name=reindex&priority=7&tags=feature=search", mixed(300)).await;
    let first = world.admin.ended(&id).await;
    let failed = world.admin.results(&id, "?failed=true").await;
    assert!(failed.len() > 20 && first["counts"]["failed"] == failed.len(), "{first}");

    let found = world.admin.get(&format!("/api/v1/jobs/{id}/failures")).await.expect(200).json();
    let (group, line) = (&found["groups"][0], requests::numbers(&failed)[0]);
    assert_eq!((&group["error"], &group["status"]), (&json!("invalid_request"), &json!(400)), "{found}");
    assert_eq!((&found["failed"], &found["examined"]), (&json!(failed.len()), &json!(failed.len())), "{found}");
    assert_eq!(group["line"], line, "{found}");
    let shown = world.gateway.run(&world.admin.key, &["jobs", "failures", &id]).await.expect(0);
    assert!(shown.stdout.contains("invalid_request") && shown.stdout.contains("400"), "{shown:?}");

    let none = retry(&world, &id, &json!({"errors": ["server_error"]})).await.expect(409).json();
    assert!(none["detail"].as_str().is_some_and(|said| said.contains("nothing to retry")), "{none}");
    mend(&world).await;
    let filter = json!({"errors": ["invalid_request"], "statuses": [400]});
    let made = retry(&world, &id, &filter).await.expect(202).json();
    let again = retry(&world, &id, &filter).await.expect(202);
    assert_eq!((again.header("idempotent-replayed"), &again.json()["id"]), (Some("true"), &made["id"]));
    let second = made["id"].as_str().expect("an id").to_owned();
    assert_eq!((&made["retry_of"], &made["name"], &made["priority"]), (&json!(id), &json!("reindex"), &json!(7)));
    assert_eq!(made["counts"]["accepted"], failed.len(), "{made}");
    assert_eq!(made["tags"]["feature"], "search", "{made}");

    let job = world.admin.ended(&second).await;
    assert_eq!(job["counts"]["succeeded"], failed.len(), "{job}");
    let answers = world.admin.results(&second, "").await;
    assert_eq!(requests::numbers(&answers), requests::numbers(&failed), "in the order of the first job");

    let merged = world.admin.results(&id, "?merge=retries").await;
    assert_eq!(requests::numbers(&merged), (1..=300).collect::<Vec<_>>());
    for (n, result) in (1..).zip(&merged) {
        assert_eq!(result["error"], Value::Null, "{result}");
        if n % 3 != 0 {
            requests::assert_answers(result, n);
        }
    }
    assert_eq!(world.admin.results(&id, "?merge=retries&failed=true").await, Vec::<Value>::new());
    assert_eq!(world.admin.results(&id, "?merge=retries&from=299").await.len(), 2);
    assert_eq!(&world.admin.job(&id).await["counts"], &first["counts"], "the first job changed");
    world.check().await;
}

/// The retry of a retry counts too; where none of them succeeded, the newest failure is told.
#[tokio::test]
async fn a_retry_can_be_retried() {
    let world = refusing("retry_chain").await;
    let id = world.admin.submit("", requests::chat(60)).await;
    world.admin.ended(&id).await;
    let second = retry(&world, &id, &json!({})).await.expect(202).json()["id"].as_str().expect("an id").to_owned();
    let job = world.admin.ended(&second).await;
    assert!(job["counts"]["failed"].as_i64() > Some(0), "the weather was too good: {job}");
    let left = world.admin.results(&id, "?merge=retries&failed=true").await;
    assert_eq!(job["counts"]["failed"], left.len());
    mend(&world).await;
    let third = retry(&world, &second, &json!({})).await.expect(202).json()["id"].as_str().expect("an id").to_owned();
    world.admin.ended(&third).await;
    let merged = world.admin.results(&id, "?merge=retries").await;
    assert_eq!(requests::numbers(&merged), (1..=60).collect::<Vec<_>>());
    assert!(merged.iter().all(|result| result["error"].is_null()));
    world.check().await;
}

#[tokio::test]
async fn what_was_cancelled_is_tried_again_when_asked_for() {
    let world =
        World::start("retry_cancelled", |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) })
            .await;
    world.simulator.set_latency("first", 50).await;
    let id = world.admin.submit("", requests::chat(2_000)).await;
    world.simulator.has_seen(30).await;
    let early = retry(&world, &id, &json!({"unfinished": true})).await.expect(409).json();
    assert_eq!(early["state"], "running", "{early}");
    world.admin.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.expect(200);
    let job = world.admin.ended(&id).await;
    retry(&world, &id, &json!({})).await.expect(409);
    world.simulator.set_latency("first", 0).await;

    let command = ["--output", "json", "jobs", "retry", &id, "--unfinished"];
    let made = world.gateway.run(&world.admin.key, &command).await.expect(0).json();
    assert_eq!(made["counts"]["accepted"], job["counts"]["cancelled"], "{made}");
    let second = made["id"].as_str().expect("an id");
    world.admin.ended(second).await;
    let merged = world.admin.results(&id, "?merge=retries").await;
    assert_eq!(requests::numbers(&merged), (1..=2_000).collect::<Vec<_>>());
    assert!(merged.iter().all(|result| result["error"].is_null()));

    world.admin.delete(&format!("/api/v1/jobs/{id}")).await.expect(200);
    let other = json!({"unfinished": true, "statuses": [400]});
    assert_eq!(retry(&world, &id, &other).await.expect(410).json()["code"], "gone");
    world.check().await;
}

/// A hundred clicks at once make one job, and another team's key makes none.
#[tokio::test]
async fn a_double_click_makes_one_retry() {
    let world = refusing("retry_twice").await;
    let id = world.admin.submit("", requests::chat(200)).await;
    world.admin.ended(&id).await;
    let all = json!({});
    let clicks = futures::future::join_all((0..30).map(|_| retry(&world, &id, &all))).await;
    let made: HashSet<String> = clicks
        .iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| answer.json()["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(clicks.iter().all(|answer| matches!(answer.status, 202 | 409)), "{clicks:?}");
    assert_eq!(world.db.number("select count(*) from job where retry_of is not null").await, 1);
    let other = world.key("other", json!({})).await;
    other.post(&format!("/api/v1/jobs/{id}/retry"), "").await.expect(404);
    for second in made {
        world.admin.ended(&second).await;
    }
    world.check().await;
}
