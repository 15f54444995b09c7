//! Each change through the API leaves a line of who did it, and can be asked for.

use domain::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::world::World;

/// `action object` of each line, the newest first.
async fn lines(world: &World, key: &str, query: &str) -> Vec<String> {
    let page = world.ask("GET", &format!("/api/v1/audit{query}"), Some(key), "").await;
    assert_eq!(page.status, 200, "{}", page.json);
    let line = |line: &Value| format!("{} {}", line["action"].as_str().unwrap(), line["object"].as_str().unwrap());
    page.json["data"].as_array().unwrap().iter().map(line).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_change_has_a_line_with_who_and_what(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    let ask = async |method: &str, path: &str, body: Value| -> Value {
        let answer = world.ask(method, path, Some(&admin), &body.to_string()).await;
        assert!(answer.status < 300, "{method} {path}: {}", answer.json);
        answer.json
    };
    ask("PUT", "/api/v1/lanes/night", json!({"class": "weighted", "weight": 2})).await;
    ask("PUT", "/api/v1/lanes/night", json!({"class": "weighted", "weight": 3})).await;
    ask("PUT", "/api/v1/lanes/night", json!({"class": "weighted", "weight": 3})).await;
    ask("DELETE", "/api/v1/lanes/night", Value::Null).await;
    ask("POST", "/api/v1/teams", json!({"name": "search", "weight": 5})).await;
    ask("PUT", "/api/v1/limits", json!({"scope": "team:search", "kind": "slots", "cap": 8})).await;
    ask("PUT", "/api/v1/limits", json!({"scope": "team:search", "kind": "slots", "cap": 6})).await;
    ask("DELETE", "/api/v1/limits?scope=team:search&kind=slots", Value::Null).await;
    let made = ask("POST", "/api/v1/keys", json!({"team": "search", "name": "ci", "role": "read", "rpm": 60})).await;
    let id = made["id"].as_str().unwrap();
    for _ in 0..2 {
        ask("DELETE", &format!("/api/v1/keys/{id}"), Value::Null).await;
        ask("DELETE", "/api/v1/teams/search", Value::Null).await;
    }
    // What is asked for and is so already, and what is refused, is no change.
    assert_eq!(world.ask("DELETE", "/api/v1/teams/filed", Some(&admin), "").await.status, 409);
    assert_eq!(
        lines(&world, &admin, "").await,
        [
            "disable team:search",
            &format!("revoke key:{id}"),
            &format!("create key:{id}"),
            "remove limit:team:search",
            "set limit:team:search",
            "set limit:team:search",
            "create team:search",
            "remove lane:night",
            "set lane:night",
            "set lane:night",
            "apply config",
        ]
    );
    let page = world.ask("GET", "/api/v1/audit?object=limit:team:search", Some(&admin), "").await.json;
    let second = &page["data"][1];
    assert_eq!(second["details"], json!({"kind": "slots", "from": 8, "to": 6}));
    assert_eq!((&second["team"], second["key_id"].as_str()), (&json!("ops"), Some(&admin[3..15])), "{second}");
    let page = world.ask("GET", "/api/v1/audit?object=lane:night", Some(&admin), "").await.json;
    assert_eq!(page["data"].as_array().unwrap().len(), 3);
    assert_eq!(page["data"][1]["details"]["from"]["weight"], 2, "{page}");
    assert_eq!(page["data"][1]["details"]["to"]["weight"], 3, "{page}");
    assert!(!page.to_string().contains(made["key"].as_str().unwrap()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn pages_join_and_times_and_objects_narrow_them(pool: PgPool) {
    let world = World::new(pool).await;
    let operator = world.key("ops", Role::Operator).await;
    let job = world.job("search").await;
    // Some of the same moment, so that a page ends between them.
    sqlx::query(
        "insert into audit (team_id, job_id, object, action, at)
         select case when n > 4 then 1 end, case when n > 4 then $1 end, case when n <= 4 then 'lane:bulk' end, 'set',
                timestamptz '2026-01-01 00:00:00Z' + make_interval(hours => n / 2)
         from generate_series(1, 6) n",
    )
    .bind(job.0)
    .execute(&world.pool)
    .await
    .unwrap();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/audit?limit=2&to=2026-02-01T00:00:00Z{cursor}");
        let page = world.ask("GET", &path, Some(&operator), "").await.json;
        seen.extend(page["data"].as_array().unwrap().iter().map(|line| line["object"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(
        seen,
        [job.to_string(), job.to_string()].into_iter().chain(vec!["lane:bulk".to_owned(); 4]).collect::<Vec<_>>()
    );
    let narrow = "?object=lane:bulk&from=2026-01-01T01:00:00Z&to=2026-01-01T02:00:00Z";
    assert_eq!(lines(&world, &operator, narrow).await.len(), 2);
    assert_eq!(lines(&world, &operator, &format!("?object={job}")).await.len(), 2);
    for (query, param) in [("object=lanes:bulk", "object"), ("from=monday", "from"), ("cursor=AAAA", "cursor")] {
        let refused = world.ask("GET", &format!("/api/v1/audit?{query}"), Some(&operator), "").await;
        assert_eq!((refused.status, &refused.json["param"]), (400, &json!(param)), "{query}");
    }
}
