//! Progress that can be trusted: the same in a job and in its events, and nothing lost or repeated over reconnections.

use std::time::Duration;

use e2e::{Client, Setup, World, catalog, requests};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

struct Event {
    name: String,
    id: String,
    data: Value,
}

/// The first events of a connection, at most `most`, and those that come within `patience`; `None`: 204.
async fn listen(caller: &Client, job: &str, last: Option<&str>, most: usize, patience: Duration) -> Option<Vec<Event>> {
    let mut request = caller.request(Method::GET, &format!("/api/v1/jobs/{job}/events"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.expect("the gateway answers");
    if response.status() == 204 {
        return None;
    }
    assert_eq!(response.status(), 200);
    let (mut text, mut pieces) = (String::new(), response.bytes_stream());
    let _ = tokio::time::timeout(patience, async {
        while text.matches("\n\n").count() < most {
            let Some(piece) = pieces.next().await else { return };
            text.push_str(std::str::from_utf8(&piece.expect("the stream goes on")).expect("text"));
        }
    })
    .await;
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
        let data = serde_json::from_str(&field("data:")?).expect("JSON");
        Some(Event { name: field("event:").expect("a name"), id: field("id:").expect("an id"), data })
    };
    // Comments keep the connection alive, and are no events.
    Some(text.split_inclusive("\n\n").filter(|part| part.ends_with("\n\n")).filter_map(event).take(most).collect())
}

const SHORT: Duration = Duration::from_millis(2_500);
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_reader_that_reconnects_misses_nothing_and_gets_nothing_twice() {
    let world =
        World::start("reconnect", |simulator| Setup { slots: 4, ..Setup::new(catalog::one(simulator, "")) }).await;
    world.simulator.set_latency("only", 50).await;
    let id = world.admin.submit("", requests::chat(300)).await;
    let mut seen: Vec<Event> = Vec::new();
    // One event a connection, as if each broke.
    while seen.last().is_none_or(|last| last.name != "end") {
        let last = seen.last().map(|last| last.id.as_str());
        let events = listen(&world.admin, &id, last, 1, LONG).await.expect("the end was not told yet");
        assert_eq!(events.len(), 1, "nothing was told for {LONG:?}");
        seen.extend(events);
    }
    assert!(seen.len() > 3, "{} events", seen.len());
    for pair in seen.windows(2) {
        let ended = |event: &Event| event.data["counts"]["succeeded"].as_i64().expect("a count");
        assert_ne!(pair[0].id, pair[1].id, "{}", pair[1].data);
        assert!(ended(&pair[0]) <= ended(&pair[1]), "{} after {}", pair[1].data, pair[0].data);
    }
    let end = seen.last().expect("the end");
    assert_eq!((&end.data["state"], &end.data["counts"]["succeeded"]), (&json!("completed"), &json!(300)));
    assert!(listen(&world.admin, &id, Some(&end.id), 1, LONG).await.is_none(), "the end was told again");
    assert!(listen(&world.admin, &id, None, 1, LONG).await.is_some_and(|events| events[0].id == end.id));
    world.check().await;
}

#[tokio::test]
async fn nothing_is_told_while_nothing_changes_and_the_job_says_the_same() {
    let world =
        World::start("standstill", |simulator| Setup { slots: 4, ..Setup::new(catalog::one(simulator, "")) }).await;
    world.simulator.set_latency("only", 30).await;
    let id = world.admin.submit("", requests::chat(2_000)).await;
    let moving = world.admin.job_when(&id, "to be under way", |job| {
        job["counts"]["succeeded"].as_i64().is_some_and(|ended| ended >= 100) && job["eta_s"].is_i64()
    });
    let moving = moving.await;
    assert!(moving["rate_per_s"].as_f64().is_some_and(|rate| rate > 5.0), "{moving}");
    let eta = |name: &str| moving[name].as_i64().unwrap_or_else(|| panic!("{name}: {moving}"));
    assert!(eta("eta_low_s") <= eta("eta_s") && eta("eta_s") <= eta("eta_high_s"), "{moving}");
    assert!((3..300).contains(&eta("eta_s")), "{moving}");
    let shown = world.gateway.run(&world.admin.key, &["jobs", "show", &id]).await.expect(0).stdout;
    assert!(shown.contains("a second"), "{shown}");

    world.admin.post(&format!("/api/v1/jobs/{id}/pause"), "").await.expect(200);
    world.admin.job_when(&id, "to stand still", |job| job["in_flight"] == 0).await;
    let events = listen(&world.admin, &id, None, 1, LONG).await.expect("it has not ended");
    let job = world.admin.job(&id).await;
    let told = events[0].data.as_object().expect("an object");
    assert_eq!(told["waits"]["reason"], "paused");
    // Rate and time left fade with the seconds; all else is the same word for word.
    let fades = |name: &str| matches!(name, "rate_per_s" | "eta_s" | "eta_low_s" | "eta_high_s");
    for (name, value) in told {
        let same = job.get(name).is_some_and(|shown| shown == value || fades(name));
        assert!(same, "{name} is {value} in the event and {:?} in the job", job.get(name));
    }
    let again = listen(&world.admin, &id, Some(&events[0].id), 1, SHORT).await.expect("it has not ended");
    assert!(again.is_empty(), "told again: {}", again[0].data);
    world.admin.post(&format!("/api/v1/jobs/{id}/resume"), "").await.expect(200);
    let on = listen(&world.admin, &id, Some(&events[0].id), 1, LONG).await.expect("it has not ended");
    assert_eq!(on.len(), 1, "nothing is told of a job that goes on");
    world.admin.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.expect(200);
    world.admin.ended(&id).await;
    world.check().await;
}
