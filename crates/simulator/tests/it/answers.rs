use serde_json::{Value, json};
use simulator::{Config, Endpoint, Outcome, chat_echo, embedding, prompt_tokens};

use crate::support::{ASK, assert_ended, start, with};

#[tokio::test]
async fn a_chat_answer_is_openais_and_its_call_is_in_the_journal() {
    let sim = start(Config::default()).await;
    let id = "01938c5e-0000-7000-8000-0123456789ab";
    let response = sim.chat().header("x-client-request-id", id).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-request-id"], "req_sim000000000001");
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["usage"]["prompt_tokens"], prompt_tokens(ASK.len()));
    assert_eq!(body["usage"]["completion_tokens"], 16);
    let text = body["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(text.starts_with(&chat_echo(r#"[{"role":"user","content":"hi"}]"#)));

    let line = sim.only_line().await;
    assert_ended(&line, Outcome::Ok, Some(200));
    assert_eq!(line.client_request_id.as_deref(), Some(id));
    assert_eq!((line.endpoint, &*line.model, &*line.deployment), (Endpoint::Chat, "m", "default"));
    assert_eq!((line.prompt_tokens, line.completion_tokens), (prompt_tokens(ASK.len()), 16));
    assert_eq!(line.bytes, body.to_string().len() as u64);
}

#[tokio::test]
async fn embeddings_follow_the_input_in_every_form() {
    let sim = start(with(json!({"embedding_dimensions": 8}))).await;
    let ask = async |input: Value, more: Value| -> Value {
        let mut body = json!({"model": "e", "input": input});
        body.as_object_mut().expect("object").extend(more.as_object().cloned().expect("object"));
        let sent = sim.post("/v1/embeddings", body.to_string()).send().await;
        sent.expect("an answer").json().await.expect("JSON")
    };
    let floats = |v: &Value| -> Vec<f32> { serde_json::from_value(v.clone()).expect("floats") };

    let two = ask(json!(["a", "b"]), json!({})).await;
    assert_eq!(floats(&two["data"][0]["embedding"]), embedding("a", 8));
    assert_eq!(floats(&two["data"][1]["embedding"]), embedding("b", 8));
    assert_eq!((&two["data"][1]["index"], &two["model"]), (&json!(1), &json!("e")));
    let bytes = r#"{"model":"e","input":["a","b"]}"#.len();
    assert_eq!(two["usage"], json!({"prompt_tokens": prompt_tokens(bytes), "total_tokens": prompt_tokens(bytes)}));

    let wide = ask(json!("a"), json!({"dimensions": 1_536})).await;
    assert_eq!(floats(&wide["data"][0]["embedding"]), embedding("a", 1_536));
    let packed = ask(json!("a"), json!({"encoding_format": "base64"})).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().expect("text").len(), 44);
    let tokens = ask(json!([[1, 2], [3]]), json!({})).await;
    assert_eq!(tokens["data"].as_array().expect("a list").len(), 2);
    let one = ask(json!([1, 2]), json!({})).await;
    assert_eq!(one["data"][0], tokens["data"][0]);
}

#[tokio::test]
async fn models_are_listed() {
    let sim = start(with(json!({"models": ["one", "two"]}))).await;
    let list: Value = sim.get("/v1/models").await.json().await.expect("JSON");
    assert_eq!((&list["data"][0]["id"], &list["data"][1]["id"]), (&json!("one"), &json!("two")));
    assert_ended(&sim.only_line().await, Outcome::Ok, Some(200));
}

#[tokio::test]
async fn an_answer_has_the_configured_size() {
    let sim = start(with(json!({"answer_bytes": 4_096, "answer_tokens": 700}))).await;
    let body = sim.chat().send().await.expect("an answer").bytes().await.expect("body");
    assert_eq!(body.len(), 4_096);
    let json: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(json["usage"]["completion_tokens"], 700);
}

#[tokio::test]
async fn a_request_of_many_packets_is_read_whole() {
    let sim = start(Config::default()).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(3 << 20)}]}).to_string();
    let tokens = prompt_tokens(body.len());
    assert_eq!(sim.status(sim.post("/v1/chat/completions", body)).await, 200);
    assert_eq!(sim.only_line().await.prompt_tokens, tokens);
}

#[tokio::test]
async fn deployments_have_their_own_behaviour_and_counts() {
    let sim = start(with(json!({
        "answer_tokens": 3,
        "deployments": {"broken": {"error_rate": 1.0}}
    })))
    .await;
    for (path, status) in [
        ("/v1/chat/completions", 200),
        ("/d/broken/v1/chat/completions", 500),
        ("/d/unheard-of/v1/chat/completions", 200),
        ("/d/default/v1/chat/completions", 200),
    ] {
        assert_eq!(sim.status(sim.post(path, ASK)).await, status, "{path}");
    }
    let stats = sim.stats().await;
    let calls = |name: &str| stats.deployments[name].calls;
    assert_eq!((calls("default"), calls("broken"), calls("unheard-of"), stats.all.calls), (2, 1, 1, 4));
    assert_eq!(stats.deployments["unheard-of"].completion_tokens, 3);
    let names: Vec<String> = sim.journal().await.iter().map(|l| l.deployment.to_string()).collect();
    assert_eq!(names, ["default", "broken", "unheard-of", "default"]);
}

#[tokio::test]
async fn a_required_key_is_required() {
    let sim = start(with(json!({"require_key": "sk-1"}))).await;
    assert_eq!(sim.status(sim.chat()).await, 401);
    assert_eq!(sim.status(sim.chat().bearer_auth("sk-2")).await, 401);
    assert_eq!(sim.status(sim.chat().bearer_auth("sk-1")).await, 200);
    let outcomes: Vec<Outcome> = sim.journal().await.iter().map(|line| line.outcome).collect();
    assert_eq!(outcomes, [Outcome::Error, Outcome::Error, Outcome::Ok]);
}

#[tokio::test]
async fn mistakes_get_an_explanation() {
    let sim = start(Config::default()).await;
    let get = sim.client.get(sim.url("/v1/chat/completions"));
    let cases = [
        (get, 405, "Use POST"),
        (sim.post("/v1/models", ""), 405, "Use GET"),
        (sim.post("/v1/completions", "{}"), 404, "/v1/chat/completions"),
        (sim.post("/elsewhere", "{}"), 404, "/sim/config"),
        (sim.post("/d/a%20b/v1/embeddings", "{}"), 404, "/v1/embeddings"),
        (sim.post("/v1/chat/completions", "{"), 400, "cannot be read"),
        (sim.post("/v1/embeddings", r#"{"model":"m","input":[]}"#), 400, "1 to 2048"),
    ];
    for (request, status, says) in cases {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{says}");
        let body: Value = response.json().await.expect("JSON");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains(says), "{message}");
    }
    assert!(sim.journal().await.iter().all(|line| line.outcome == Outcome::Error));
}
