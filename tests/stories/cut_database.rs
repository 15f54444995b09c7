//! Connections to the database break at any moment, also between a COMMIT and its answer. Nobody can tell then whether it
//! happened; everything still happens once.

use std::time::Duration;

use e2e::{Postgres, Setup, World, catalog, proxy::Proxy, requests};
use futures::future::join_all;
use serde_json::json;

const REQUESTS: usize = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answers_are_lost_happen_once() {
    let proxy = Proxy::start(&Postgres::shared());
    let setup = |simulator: &_| Setup {
        slots: 128,
        lease_s: 5,
        socket_dir: Some(proxy.dir().to_owned()),
        ..Setup::new(catalog::usual(simulator, ""))
    };
    let world = World::start("cut_database", setup).await;
    world.simulator.set_latency("first", 20).await;
    let id = world.admin.submit("", requests::chat(REQUESTS)).await;
    let cutting = async {
        for turn in 0..60 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            proxy.cut(turn);
        }
    };
    // Callers meanwhile: some are refused, none is forgotten.
    let calls = (0..40).map(|n| {
        let caller = world.admin.clone();
        async move { caller.chat(requests::chat_body("chat", n)).await.status }
    });
    let ((), statuses) = tokio::join!(cutting, join_all(calls));
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429 | 503)), "{statuses:?}");
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(REQUESTS), "{job}");
    for (n, result) in (1..).zip(&world.admin.results(&id, "").await) {
        requests::assert_answers(result, n);
    }
    world.check().await;
}
