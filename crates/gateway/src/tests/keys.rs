//! Teams and keys through the API.

use domain::Role;
use sqlx::PgPool;

use super::world::World;

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_is_made_used_and_revoked(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    assert_eq!(world.ask("POST", "/api/v1/teams", Some(&admin), r#"{"name":"search"}"#).await.status, 201);
    let body = r#"{"team":"search","name":"ci","role":"submit","rpm":60}"#;
    let made = world.ask("POST", "/api/v1/keys", Some(&admin), body).await;
    assert_eq!((made.status, &made.json["team"], &made.json["rpm"]), (201, &"search".into(), &60.into()));
    assert_eq!(made.response.headers()["cache-control"], "no-store");
    let (id, key) = (made.json["id"].as_str().unwrap(), made.json["key"].as_str().unwrap());
    assert_eq!(made.response.headers()["location"], format!("/api/v1/keys/{id}"));
    let limits = world.ask("GET", "/api/v1/limits", Some(&admin), "").await;
    assert_eq!(limits.json["data"][0]["scope"], format!("key:{id}"), "{}", limits.json);

    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(key), "").await.status, 200);
    let listed = world.ask("GET", "/api/v1/keys?team=search", Some(&admin), "").await;
    assert_eq!((&listed.json["data"][0]["id"], listed.json["data"][0].get("key")), (&made.json["id"], None));

    let revoked = world.ask("DELETE", &format!("/api/v1/keys/{id}"), Some(&admin), "").await;
    assert!(revoked.status == 200 && revoked.json["revoked_at"].is_string());
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(key), "").await.status, 401);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_last_admin_key_can_neither_be_revoked_nor_lose_its_team(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    world.key("chat", Role::Operator).await;
    let own = format!("/api/v1/keys/{}", &admin[3..15]);
    for path in [own.as_str(), "/api/v1/teams/ops"] {
        let refused = world.ask("DELETE", path, Some(&admin), "").await;
        assert_eq!((refused.status, &refused.json["code"]), (409, &"conflict".into()), "{path}");
        assert!(refused.json["detail"].as_str().unwrap().contains("last admin key"), "{}", refused.json);
    }
    let soon = chrono::Utc::now() + chrono::TimeDelta::days(3);
    let body = serde_json::json!({"team": "chat", "name": "n", "role": "admin", "expires_at": soon});
    assert_eq!(world.ask("POST", "/api/v1/keys", Some(&admin), &body.to_string()).await.status, 201);
    assert_eq!(world.ask("DELETE", &own, Some(&admin), "").await.status, 409, "the other one expires in three days");
    let second = world.key("chat", Role::Admin).await;
    assert_eq!(world.ask("DELETE", &own, Some(&admin), "").await.status, 200);
    assert_eq!(world.ask("DELETE", "/api/v1/teams/chat", Some(&second), "").await.status, 409);
    assert_eq!(world.ask("GET", "/api/v1/keys", Some(&second), "").await.status, 200);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_expires_and_says_so(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let admin = world.key("ops", Role::Admin).await;
    // PostgreSQL keeps microseconds.
    let at = chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 6) + chrono::TimeDelta::days(90);
    let body = serde_json::json!({"team": "ops", "name": "n", "role": "submit", "expires_at": at});
    let made = world.ask("POST", "/api/v1/keys", Some(&admin), &body.to_string()).await;
    assert_eq!(made.json["expires_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap(), at);
    let (id, key) = (made.json["id"].as_str().unwrap(), made.json["key"].as_str().unwrap());
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(key), "").await.status, 200);
    let age =
        "update api_key set created_at = now() - interval '1 day', expires_at = now(), changed_at = clock_timestamp()
               where key_id = $1";
    sqlx::query(age).bind(id).execute(&pool).await.unwrap();
    engine::keys::see_changes(&world.app.engine).await;
    let refused = world.ask("GET", "/api/v1/jobs", Some(key), "").await;
    assert_eq!((refused.status, &refused.json["code"]), (401, &"unauthorized".into()));
    assert!(refused.json["detail"].as_str().unwrap().contains("expired at"), "{}", refused.json);
    for bad in ["\"2020-01-01T00:00:00Z\"", "\"2099-01-01T00:00:00Z\"", "\"soon\"", "90"] {
        let body = format!(r#"{{"team":"ops","name":"n","role":"submit","expires_at":{bad}}}"#);
        let refused = world.ask("POST", "/api/v1/keys", Some(&admin), &body).await;
        assert!(matches!(refused.status, 400 | 422), "{bad}: {}", refused.status);
        assert_eq!(refused.json["param"], "expires_at", "{bad}: {}", refused.json);
    }
}

/// Another secret for the same id: well-formed, and wrong.
fn forged(key: &str) -> String {
    const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let other = engine::admit::mint(&[9; 32]);
    let body = format!("tw_{}_{}", &key[3..15], &other.key.expose()[16..59]);
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    body + std::str::from_utf8(&digits).unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_unknown_id_and_a_wrong_secret_are_answered_alike(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Submit).await;
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(&key), "").await.status, 200);
    let unknown = engine::admit::mint(&[7; 32]);
    let mut times = Vec::new();
    let mut answers = Vec::new();
    for wrong in [forged(&key), unknown.key.expose().to_owned()] {
        // The first look of a pair may find the cache just refreshed; what is compared is the rest.
        let began = std::time::Instant::now();
        for _ in 0..5 {
            let answer = world.ask("GET", "/api/v1/jobs", Some(&wrong), "").await;
            assert_eq!(answer.status, 401, "{}", answer.json);
            answers.push(answer.json);
        }
        times.push(began.elapsed());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    // Each waits for a look at the table, and looks are 50 ms apart.
    assert!(times.iter().all(|time| *time >= std::time::Duration::from_millis(200)), "{times:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn wrong_secrets_of_one_key_are_throttled_and_the_key_is_not(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let (key, admin) = (world.key("search", Role::Submit).await, world.key("ops", Role::Admin).await);
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(&key), "").await.status, 200);
    let wrong = forged(&key);
    let all = futures::future::join_all((0..60).map(|_| world.ask("GET", "/v1/models", Some(&wrong), ""))).await;
    let throttled: Vec<_> = all.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(throttled.len(), 40, "{:?}", all.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(throttled.iter().all(|answer| answer.header("retry-after").is_some()));
    assert_eq!(throttled[0].json["error"]["type"], "rate_limit_error", "{}", throttled[0].json);
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(&key), "").await.status, 200, "its owner goes on");

    world.app.engine.keys.sign_ins.write(&mut pool.acquire().await.unwrap()).await.unwrap();
    let lines = world.ask("GET", "/api/v1/audit?object=address:unknown", Some(&admin), "").await.json;
    let line = &lines["data"][0];
    assert_eq!((line["action"].as_str(), line["details"]["failures"].as_i64()), (Some("sign_in_failed"), Some(60)));
    assert_eq!(line["details"]["key_ids"], serde_json::json!([&key[3..15]]));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_disabled_team_is_refused_by_name(pool: PgPool) {
    let world = World::new(pool).await;
    let (admin, key) = (world.key("ops", Role::Admin).await, world.key("search", Role::Submit).await);
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(&key), "").await.status, 200);
    assert_eq!(world.ask("DELETE", "/api/v1/teams/search", Some(&admin), "").await.status, 200);
    let refused = world.ask("GET", "/api/v1/jobs", Some(&key), "").await;
    assert!(refused.status == 403 && refused.json["detail"].as_str().unwrap().contains("search"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_file_manages_is_not_edited(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    for (method, path, body) in
        [("DELETE", "/api/v1/teams/filed", ""), ("POST", "/api/v1/teams", r#"{"name":"filed","weight":9}"#)]
    {
        let answer = world.ask(method, path, Some(&admin), body).await;
        assert_eq!((answer.status, &answer.json["code"]), (409, &"managed_by_file".into()), "{method}");
    }
    let twice = world.ask("POST", "/api/v1/teams", Some(&admin), r#"{"name":"ops"}"#).await;
    assert_eq!((twice.status, &twice.json["code"]), (409, &"conflict".into()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn bad_input_is_named(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    for (method, path, body, status, param) in [
        ("POST", "/api/v1/keys", r#"{"team":"none","name":"n","role":"submit"}"#, 422, "team"),
        ("POST", "/api/v1/keys", r#"{"team":"ops","name":"n","role":"submit","lanes":["night"]}"#, 422, "lanes"),
        ("POST", "/api/v1/teams", r#"{"name":"No"}"#, 422, "name"),
        ("GET", "/api/v1/jobs?state=done", "", 400, "state"),
        ("GET", "/api/v1/jobs?cursor=!", "", 400, "cursor"),
        ("POST", "/api/v1/jobs?priority=high", "", 400, "priority"),
        ("GET", "/api/v1/reports/spend?from=monday", "", 400, "from"),
    ] {
        let answer = world.ask(method, path, Some(&admin), body).await;
        assert_eq!((answer.status, &answer.json["param"]), (status, &param.into()), "{method} {path} {body}");
    }
    for (path, body) in [("/api/v1/keys", "{"), ("/api/v1/teams", r#"{"name":"x","wieght":1}"#)] {
        let answer = world.ask("POST", path, Some(&admin), body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(world.ask("GET", "/api/v1/jobs?sate=queued", Some(&admin), "").await.status, 400);
    let line = world.ask("POST", "/api/v1/jobs", Some(&admin), "{\"custom_id\":\"a\"}\n").await;
    assert_eq!((line.status, &line.json["code"], &line.json["line"]), (422, &"bad_line".into(), &1.into()));
    let model = r#"{"model":"gpt-9","messages":[{}]}"#;
    let unknown = world.ask("POST", "/v1/chat/completions", Some(&admin), model).await;
    assert_eq!((unknown.status, &unknown.json["error"]["code"]), (404, &"model_not_found".into()));
}
