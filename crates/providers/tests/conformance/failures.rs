//! Refusals, faults and silence.

use super::*;

#[tokio::test]
async fn a_refused_request_is_told_in_openais_form() {
    for kind in KINDS {
        let window = json!({"status": 400, "for_ms": 60_000});
        let bench = Bench::start(kind, json!({"throttle": [window]})).await;
        let error = bench.chat(&bench.target()).await.unwrap_err();
        assert_eq!((error.class, error.http_status), (ErrorClass::InvalidRequest, Some(400)));
        let body: Value = serde_json::from_slice(&error.body.unwrap()).unwrap();
        assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
        assert!(body.get("type").is_none() && body["error"].get("param").is_some(), "{body}");
    }
}

#[tokio::test]
async fn refusals_have_their_class_and_their_wait() {
    let cases = [
        (429, ErrorClass::Throttled, Some(2)),
        (503, ErrorClass::Overloaded, Some(1)),
        (529, ErrorClass::Overloaded, None),
        (500, ErrorClass::ServerError, None),
        (404, ErrorClass::ModelNotFound, None),
        (408, ErrorClass::ServerError, None),
        (409, ErrorClass::ServerError, None),
        (425, ErrorClass::ServerError, None),
        (403, ErrorClass::Forbidden, None),
        (405, ErrorClass::UnexpectedStatus, None),
    ];
    for kind in KINDS {
        for (status, class, wait) in cases {
            let window = json!({"status": status, "for_ms": 60_000, "retry_after_s": wait});
            let bench = Bench::start(kind, json!({"throttle": [window]})).await;
            let target = bench.target();
            let error = bench.chat(&target).await.unwrap_err();
            assert_eq!((error.class, error.http_status), (class, Some(status)), "{error}");
            assert_eq!(error.retry_after, wait.map(Duration::from_secs));
            assert_eq!(bench.stream(&target).await.unwrap_err().class, class);
        }
    }
}

#[tokio::test]
async fn the_credential_is_presented_and_its_refusal_is_the_operators() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"require_key": "sk-right"})).await;
        let key = tempfile::NamedTempFile::new().unwrap();
        let with_key = |secret: &str| {
            std::fs::write(key.path(), secret).unwrap();
            let credential = Some(format!("file:{}", key.path().display()));
            Target::resolve("d", &Deployment { credential, ..bench.deployment() }).unwrap()
        };
        bench.chat(&with_key("sk-right")).await.unwrap();
        let error = bench.chat(&with_key("sk-wrong")).await.unwrap_err();
        assert_eq!((error.class, error.body.is_none()), (ErrorClass::Credential, true));
        assert!(!format!("{error} {error:?}").contains("sk-"));
        assert_eq!(bench.chat(&bench.target()).await.unwrap_err().class, ErrorClass::Credential);
    }
}

#[tokio::test]
async fn faults_of_the_answer_have_their_class() {
    let cases = [
        ("error_rate", ErrorClass::ServerError),
        ("garbage_rate", ErrorClass::Garbage),
        ("wrong_type_rate", ErrorClass::Garbage),
        ("cut_rate", ErrorClass::Cut),
        ("hang_rate", ErrorClass::ReadTimeout),
    ];
    for kind in KINDS {
        for (fault, class) in cases {
            let bench = Bench::start(kind, json!({fault: 1.0})).await;
            let mut target = bench.target();
            if class == ErrorClass::ReadTimeout {
                target.read_timeout = Duration::from_millis(300);
            }
            let error = bench.chat(&target).await.unwrap_err();
            assert_eq!(error.class, class, "{fault}: {error}");
            if providers::serves(kind, Endpoint::Embeddings) {
                let body = r#"{"model":"route","input":"x"}"#;
                let error = bench.call(&target, Endpoint::Embeddings, body).await.1.unwrap_err();
                assert_eq!(error.class, class, "{fault} of embeddings: {error}");
            }
            let error = match bench.stream(&target).await {
                Err(error) => error,
                Ok((_, end)) => end.expect_err(fault),
            };
            assert_eq!(error.class, class, "{fault} of a stream: {error}");
        }
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_and_a_late_one_is_not() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"latency": {"kind": "fixed", "ms": 300}})).await;
        let mut target = bench.target();
        assert!(bench.chat(&target).await.unwrap().ttft >= Duration::from_millis(300));
        target.total_timeout = Duration::from_millis(100);
        assert_eq!(bench.chat(&target).await.unwrap_err().class, ErrorClass::TotalTimeout);
    }
}
