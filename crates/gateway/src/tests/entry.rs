//! What every request passes, whatever its route: its id, text that cannot be stored, and what an unknown path is told.

use axum::{body::Body, http::Request};
use domain::Role;
use sqlx::PgPool;

use super::world::{Answer, World};
use crate::router::{Route, routes};

fn filled(route: &Route, id: &str) -> String {
    route.path.replace("{id}", id).replace("{*id}", id)
}

async fn with_agent(world: &World, path: &str, agent: &str) -> Answer {
    world.send(Request::post(path).header("user-agent", agent).body(Body::empty()).unwrap()).await
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_answer_names_its_request(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    let mut seen = std::collections::HashSet::new();
    let of_routes: Vec<_> = routes().iter().map(|route| (route.method, filled(route, "nothing"))).collect();
    let of_none = [("POST", "/chat/completions"), ("GET", "/v1/nothing"), ("PUT", "/api/v1/jobs"), ("GET", "/%00")];
    for (method, path) in of_routes.into_iter().chain(of_none.map(|(method, path)| (method, path.to_owned()))) {
        for key in [None, Some(admin.as_str())] {
            let answer = world.ask(method, &path, key, "").await;
            let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{method} {path}: {}", answer.status));
            assert!(id.parse::<domain::RequestId>().is_ok(), "{id}");
            assert!(seen.insert(id.to_owned()), "{id} was given twice");
        }
    }
    for (path, body) in [
        ("/v1/chat/completions", r#"{"model":"gpt-9","messages":[]}"#),
        ("/v1/embeddings", "{"),
        ("/v1/embeddings", r#"{"model":"BAAI/bge-m3","input":"x"}"#),
    ] {
        let failed = world.ask("POST", path, Some(&admin), body).await;
        assert!(failed.status >= 400);
        assert_eq!(failed.header("x-request-id"), failed.header("x-tollway-request-id"), "{path} {body}");
        assert!(failed.header("x-request-id").is_some());
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_model_with_slashes_is_found_as_it_is_and_encoded(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Read).await;
    for path in ["/v1/models/BAAI/bge-m3", "/v1/models/BAAI%2Fbge-m3"] {
        let answer = world.ask("GET", path, Some(&key), "").await;
        assert_eq!((answer.status, &answer.json["id"]), (200, &"BAAI/bge-m3".into()), "{path}");
    }
    for path in ["/v1/models/BAAI", "/v1/models/BAAI/bge-m3/x", "/v1/models//BAAI/bge-m3"] {
        let answer = world.ask("GET", path, Some(&key), "").await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (404, &"model_not_found".into()), "{path}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_nul_anywhere_is_a_bad_request(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    for route in routes() {
        for path in [filled(&route, "a%00b"), filled(&route, "nothing") + "?team=%00", filled(&route, "x") + "?a%00=1"]
        {
            if !path.contains("%00") {
                continue;
            }
            let answer = world.ask(route.method, &path, Some(&admin), "").await;
            assert_eq!(answer.status, 400, "{} {path}", route.method);
        }
    }
    let retry = format!("/api/v1/jobs/{}/retry", world.job("ops").await);
    for (method, path, body) in [
        ("POST", "/api/v1/teams", r#"{"name":"a\u0000"}"#),
        ("POST", "/api/v1/keys", r#"{"team":"ops\u0000","name":"n","role":"submit"}"#),
        ("POST", "/api/v1/keys", r#"{"team":"ops","name":"n\u0000","role":"submit"}"#),
        ("PUT", "/api/v1/limits", r#"{"scope":"team:\u0000","kind":"slots","cap":1}"#),
        ("PUT", "/api/v1/budgets/b", r#"{"limit_usd":"1","window":"day","scope":{"team":"\u0000"}}"#),
        ("PUT", "/api/v1/budgets/b", r#"{"limit_usd":"1","window":"day","scope":{"tags":{"a":"\u0000"}}}"#),
        ("POST", "/api/v1/alerts/test", r#"{"receiver":"\u0000"}"#),
        ("POST", retry.as_str(), r#"{"codes":["\u0000"]}"#),
        ("POST", "/api/v1/jobs", "{\"job\":{\"webhook\":\"https://example.com/\\u0000\"}}\n{}\n"),
        ("POST", "/api/v1/jobs", "{\"job\":{\"name\":\"a\\u0000\"}}\n{}\n"),
        ("POST", "/api/v1/jobs", "{\"job\":{\"tags\":{\"customer\":\"a\\u0000\"}}}\n{}\n"),
        ("POST", "/v1/chat/completions", r#"{"model":"a\u0000","messages":[]}"#),
    ] {
        let answer = world.ask(method, path, Some(&admin), body).await;
        assert!(matches!(answer.status, 400 | 404 | 422), "{method} {path} {body}: {} {}", answer.status, answer.json);
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_number_out_of_range_is_refused_with_the_field_and_the_range(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    let job = world.job("ops").await;
    let of_job = format!("/api/v1/jobs/{job}");
    for (method, path, before, param) in [
        ("PUT", "/api/v1/lanes/night", r#"{"class":"weighted","aging_s":"#, "aging_s"),
        ("PUT", "/api/v1/lanes/night", r#"{"class":"weighted","deadline_s":"#, "deadline_s"),
        ("PUT", "/api/v1/lanes/night", r#"{"class":"weighted","weight":"#, "weight"),
        ("PUT", "/api/v1/lanes/night", r#"{"class":"weighted","reserve_percent":"#, "reserve_percent"),
        ("PUT", "/api/v1/lanes/night", r#"{"class":"weighted","backoff_ms":"#, "backoff_ms"),
        ("PUT", "/api/v1/limits", r#"{"scope":"team:filed","kind":"rpm","cap":"#, "cap"),
        ("PUT", "/api/v1/budgets/b", r#"{"window":"day","limit_tokens":"#, "limit_tokens"),
        ("POST", "/api/v1/teams", r#"{"name":"new","weight":"#, "weight"),
        ("POST", "/api/v1/keys", r#"{"team":"ops","name":"n","role":"submit","rpm":"#, "rpm"),
        ("PATCH", of_job.as_str(), r#"{"priority":"#, "priority"),
    ] {
        for value in
            ["99999999999999999999", "-99999999999999999999", "1e30", "1.5", "18446744073709551615", "-1", "NaN"]
        {
            // What a priority may be.
            if (param, value) == ("priority", "-1") {
                continue;
            }
            let body = format!("{before}{value}}}");
            let answer = world.ask(method, path, Some(&admin), &body).await;
            assert!(matches!(answer.status, 400 | 422), "{method} {path} {body}: {} {}", answer.status, answer.json);
            if value != "NaN" {
                assert_eq!(answer.json["param"], param, "{body}: {}", answer.json);
            }
        }
    }
    for (path, param) in [
        ("/api/v1/jobs?limit=", "limit"),
        ("/api/v1/keys?limit=", "limit"),
        ("/api/v1/audit?limit=", "limit"),
        ("/api/v1/alerts?limit=", "limit"),
        (format!("{of_job}/history?limit=").as_str(), "limit"),
        (format!("{of_job}/results?from=").as_str(), "from"),
    ] {
        for value in ["99999999999999999999", "1e3", "1.5", "0", "-1", "x", ""] {
            let answer = world.ask("GET", &format!("{path}{value}"), Some(&admin), "").await;
            assert_eq!((answer.status, &answer.json["param"]), (400, &param.into()), "{path}{value}: {}", answer.json);
            let detail = answer.json["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("{value:?}")) && detail.contains(" from 1 to "), "{detail}");
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_unknown_path_is_told_which_route_was_meant_in_its_sdks_form(pool: PgPool) {
    let world = World::new(pool).await;
    let openai = with_agent(&world, "/chat/completions", "OpenAI/Python 2.8.1").await;
    let said = openai.json["error"]["message"].as_str().unwrap();
    assert_eq!((openai.status, openai.json["error"]["type"].as_str()), (404, Some("invalid_request_error")));
    assert!(said.contains("Did you mean POST /v1/chat/completions?") && said.contains("ends in /v1"), "{said}");

    let twice = with_agent(&world, "/v1/v1/embeddings", "AsyncOpenAI/Python 2.8.1").await;
    assert!(twice.json["error"]["message"].as_str().unwrap().contains("POST /v1/embeddings?"), "{}", twice.json);

    let anthropic = with_agent(&world, "/v1/message", "Anthropic/Python 0.60.0").await;
    assert_eq!(anthropic.json["error"]["type"], "invalid_request_error", "a path of OpenAI's API has its form");
    let anthropic = with_agent(&world, "/v2/messages", "Anthropic/Python 0.60.0").await;
    assert_eq!((anthropic.status, &anthropic.json["type"]), (404, &"error".into()));
    assert_eq!(anthropic.json["error"]["type"], "not_found_error");
    assert_eq!(anthropic.header("request-id"), anthropic.header("x-request-id"));

    let native = world.ask("GET", "/jobs", None, "").await;
    assert_eq!((native.content_type.as_str(), &native.json["code"]), ("application/problem+json", &"not_found".into()));
    assert!(native.json["detail"].as_str().unwrap().contains("Did you mean GET /api/v1/jobs?"), "{}", native.json);
    let nothing = world.ask("GET", "/favicon.ico", None, "").await;
    assert!(nothing.json["detail"].as_str().unwrap().contains("/api/openapi.json"), "{}", nothing.json);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_method_that_is_not_taken_is_told_those_that_are(pool: PgPool) {
    let world = World::new(pool).await;
    for (method, path, takes) in [
        ("PUT", "/api/v1/jobs", "POST, GET"),
        ("POST", "/api/v1/jobs/job_0000000000001", "GET, PATCH, DELETE"),
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models/BAAI/bge-m3", "GET"),
        ("OPTIONS", "/api/v1/limits", "GET, PUT, DELETE"),
    ] {
        let answer = world.ask(method, path, None, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(takes)), "{method} {path}");
        assert!(answer.json.to_string().contains(takes), "{}", answer.json);
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn tags_in_utf8_are_the_same_for_jobs_and_for_calls(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Submit).await;
    let ask = async |path: &str, tags: &[u8], body: &'static str| {
        let request = Request::post(path).header("x-api-key", &key).header("x-tollway-tags", tags);
        world.send(request.body(Body::from(body)).unwrap()).await
    };
    let call = r#"{"model":"BAAI/bge-m3","input":"x"}"#;
    for tags in ["customer=Müller", "customer=M%C3%BCller"] {
        // Both fail behind the tags: at the first line, and at the price.
        let job = ask("/api/v1/jobs", tags.as_bytes(), "{}\n").await;
        assert_eq!((job.status, &job.json["code"]), (422, &"bad_line".into()), "{tags}: {}", job.json);
        let sync = ask("/v1/embeddings", tags.as_bytes(), call).await;
        assert_eq!((sync.status, &sync.json["error"]["param"]), (422, &"model".into()), "{tags}: {}", sync.json);
    }
    for tags in [&b"customer=M\xfcller"[..], b"customer=%FF", b"customer=%00", b"team=x", b"customer"] {
        let job = ask("/api/v1/jobs", tags, "{}\n").await;
        assert_eq!((job.status, &job.json["param"]), (400, &"x-tollway-tags".into()), "{}", job.json);
        let sync = ask("/v1/embeddings", tags, call).await;
        assert_eq!((sync.status, &sync.json["error"]["param"]), (400, &"x-tollway-tags".into()), "{}", sync.json);
        assert_eq!(job.json["detail"], sync.json["error"]["message"]);
    }
}
