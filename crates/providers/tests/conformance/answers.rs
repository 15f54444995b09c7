//! Whole answers, embeddings, and the list of models.

use super::*;

#[tokio::test]
async fn a_chat_call_is_answered_metered_and_named() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"answer_tokens": 7})).await;
        let body = support::chat_body();
        let (id, answer) = bench.call(&bench.target(), Endpoint::ChatCompletions, &body).await;
        let answer = answer.unwrap();
        assert_eq!(answer.model.as_deref(), Some("billed"));
        assert!(answer.finish_reason.is_some() && answer.vectors.is_none());
        let usage = answer.usage.unwrap();
        assert_eq!(usage.output_total(), Some(7));
        assert!(answer.ttft <= answer.latency);
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&shown["object"], &shown["model"]), (&json!("chat.completion"), &json!("billed")));
        let text = shown["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(answer.output_bytes, text.len() as u64);
        assert_eq!(
            (&shown["choices"][0]["finish_reason"], &shown["usage"]["completion_tokens"]),
            (&json!("stop"), &json!(7))
        );
        let journal = bench.journal().await;
        assert_eq!(journal.len(), 1);
        assert_eq!(usage.prompt_total(), journal[0]["prompt_tokens"].as_i64());
        assert_eq!(shown["usage"]["prompt_tokens"], journal[0]["prompt_tokens"]);
        assert!(journal[0].to_string().contains(&id.to_string()), "{}", journal[0]);
    }
}

#[tokio::test]
async fn embeddings_come_out_as_they_were_made() {
    for kind in embedding_kinds() {
        let bench = Bench::start(kind, json!({"embedding_dimensions": 1536})).await;
        let target = bench.target();
        for format in ["", r#","encoding_format":"float""#, r#","encoding_format":"base64""#] {
            let body = format!(r#"{{"model":"route","input":["one","two","three"]{format}}}"#);
            let answer = bench.call(&target, Endpoint::Embeddings, &body).await.1.unwrap();
            let vectors = answer.vectors.unwrap();
            assert_eq!((vectors.count, vectors.dims), (3, 1536));
            for (row, input) in ["one", "two", "three"].into_iter().enumerate() {
                let made: Vec<u8> =
                    simulator::embedding(input, 1536).iter().flat_map(|float| float.to_le_bytes()).collect();
                assert_eq!(vectors.row(row as u32).unwrap(), made, "{input}{format}");
            }
            let mut rendered = Vec::new();
            providers::render_embeddings(&answer.body, &vectors, providers::wants_base64(&body), &mut rendered);
            let rendered: Value = serde_json::from_slice(&rendered).unwrap();
            assert_eq!(rendered["data"][2]["embedding"].is_string(), format.contains("base64"));
            assert_eq!(answer.usage.and_then(|usage| usage.output_total()), None);
            assert!(answer.usage.is_some_and(|usage| usage.prompt_total() > Some(0)));
        }
    }
}

#[tokio::test]
async fn a_kind_without_embeddings_sends_none() {
    for kind in KINDS.into_iter().filter(|kind| !providers::serves(*kind, Endpoint::Embeddings)) {
        let bench = Bench::start(kind, json!({})).await;
        let body = r#"{"model":"route","input":"x"}"#;
        let error = bench.call(&bench.target(), Endpoint::Embeddings, body).await.1.unwrap_err();
        assert_eq!((error.class, error.http_status), (ErrorClass::InvalidRequest, None));
        assert!(error.message.contains(kind.as_str()) && error.message.contains("/v1/embeddings"), "{error}");
        assert!(bench.journal().await.is_empty());
    }
}

#[tokio::test]
async fn the_callers_maximum_cuts_the_answer() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"answer_tokens": 40})).await;
        for name in ["max_tokens", "max_completion_tokens"] {
            let body = support::chat_body().replacen('{', &format!(r#"{{"{name}":3,"#), 1);
            let answer = bench.call(&bench.target(), Endpoint::ChatCompletions, &body).await.1.unwrap();
            assert_eq!(answer.finish_reason.as_deref(), Some("length"));
            assert_eq!(answer.usage.and_then(|usage| usage.output_total()), Some(3));
        }
    }
}

#[tokio::test]
async fn the_models_are_listed_with_the_credential() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"require_key": "sk-right", "models": ["billed"]})).await;
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "sk-right").unwrap();
        let credential = Some(format!("file:{}", key.path().display()));
        let target = Target::resolve("d", &Deployment { credential, ..bench.deployment() }).unwrap();
        let models = providers::list_models(&HttpClients::new(), &target, Duration::from_secs(5)).await.unwrap();
        assert_eq!(models, Some(vec!["billed".to_owned()]));
    }
}

#[tokio::test]
async fn every_call_is_one_call() {
    for kind in KINDS {
        let faults = json!({"error_rate": 0.1, "cut_rate": 0.1, "garbage_rate": 0.1, "seed": 3});
        let bench = Bench::start(kind, faults).await;
        let (target, body) = (bench.target(), support::chat_body());
        let calls: FuturesUnordered<_> =
            (0..400).map(|_| bench.call(&target, Endpoint::ChatCompletions, &body)).collect();
        let mut called: Vec<String> = calls.map(|(id, _)| id.to_string()).collect().await;
        let journal = bench.journal().await;
        let mut booked: Vec<&str> = journal.iter().map(|line| line["client_request_id"].as_str().unwrap()).collect();
        called.sort_unstable();
        booked.sort_unstable();
        assert_eq!(called, booked);
    }
}
