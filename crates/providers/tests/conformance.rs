//! What every provider must do, held against the simulator and its journal. A new kind is added to `base_url` and runs the
//! whole suite.

mod support;

use std::{sync::Arc, time::Duration};

use domain::{AttemptId, Deployment, Endpoint, ErrorClass, catalog::ProviderKind};
use futures::{StreamExt, stream::FuturesUnordered};
use providers::{Answer, Call, CallError, HttpClients, Provider, StreamEnd, StreamEvent, Target};
use serde_json::{Value, json};
use simulator::Config;

const KINDS: [ProviderKind; 1] = [ProviderKind::Openai];

/// Where the simulator speaks `kind`'s wire.
fn base_url(kind: ProviderKind, address: std::net::SocketAddr) -> String {
    match kind {
        ProviderKind::Openai => format!("http://{address}/v1"),
    }
}

/// A simulator, and a provider of one kind that calls it.
struct Bench {
    address: std::net::SocketAddr,
    kind: ProviderKind,
    provider: Arc<dyn Provider>,
}

impl Bench {
    async fn start(kind: ProviderKind, config: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config: Config = serde_json::from_value(config).unwrap();
        tokio::spawn(simulator::serve(listener, config, std::future::pending()));
        Self { address, kind, provider: providers::provider(kind, &HttpClients::new()) }
    }

    fn deployment(&self) -> Deployment {
        Deployment {
            read_timeout_ms: 5_000,
            total_timeout_ms: 10_000,
            kind: self.kind,
            model: "billed".into(),
            ..support::deployment(&base_url(self.kind, self.address))
        }
    }

    fn target(&self) -> Target {
        Target::resolve("d", &self.deployment()).unwrap()
    }

    async fn call(&self, target: &Target, endpoint: Endpoint, body: &str) -> (AttemptId, Result<Answer, CallError>) {
        let attempt_id = AttemptId::now_v7();
        (attempt_id, self.provider.call(target, &Call { endpoint, body, attempt_id }).await)
    }

    async fn chat(&self, target: &Target) -> Result<Answer, CallError> {
        self.call(target, Endpoint::ChatCompletions, &support::chat_body()).await.1
    }

    async fn stream(&self, target: &Target) -> Result<(String, Result<StreamEnd, CallError>), CallError> {
        let body = support::stream_body();
        let call = Call { endpoint: Endpoint::ChatCompletions, body: &body, attempt_id: AttemptId::now_v7() };
        let mut stream = self.provider.stream(target, &call).await?;
        let mut text = String::new();
        loop {
            match stream.next().await.expect("an end or an error") {
                Ok(StreamEvent::Chunk(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(StreamEvent::End(end)) => return Ok((text, Ok(end))),
                Err(error) => return Ok((text, Err(error))),
            }
        }
    }

    /// The simulator's journal, one object a call.
    async fn journal(&self) -> Vec<Value> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        socket.write_all(b"GET /sim/journal HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

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
        let sent = body.replace("route", "billed");
        assert_eq!(usage.prompt_total(), Some(simulator::prompt_tokens(sent.len()) as i64));
        assert_eq!(usage.output_total(), Some(7));
        assert!(answer.ttft <= answer.latency);
        assert!(serde_json::from_slice::<Value>(&answer.body).unwrap().is_object());
        let journal = bench.journal().await;
        assert_eq!(journal.len(), 1);
        assert!(journal[0].to_string().contains(&id.to_string()), "{}", journal[0]);
    }
}

#[tokio::test]
async fn embeddings_come_out_as_they_were_made() {
    for kind in KINDS {
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
async fn a_stream_is_passed_on_and_metered() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"answer_tokens": 40, "stream_chunks": 10, "stream_pace_ms": 1.0})).await;
        let (text, end) = bench.stream(&bench.target()).await.unwrap();
        let end = end.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!(!text.contains("prompt_tokens"), "usage that the caller did not ask for was passed on");
        assert_eq!(end.usage.and_then(|usage| usage.output_total()), Some(40));
        assert!(end.finish_seen && end.output_bytes >= 100 && end.ttft < Some(end.latency), "{end:?}");
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
            let body = r#"{"model":"route","input":"x"}"#;
            let error = bench.call(&target, Endpoint::Embeddings, body).await.1.unwrap_err();
            assert_eq!(error.class, class, "{fault} of embeddings: {error}");
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

#[tokio::test]
async fn a_stream_that_is_dropped_ends_the_call() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"stream_chunks": 1000, "stream_pace_ms": 20.0})).await;
        let body = support::stream_body();
        let call = Call { endpoint: Endpoint::ChatCompletions, body: &body, attempt_id: AttemptId::now_v7() };
        let mut stream = bench.provider.stream(&bench.target(), &call).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        let ended = async {
            while bench.journal().await[0]["ended_us"].is_null() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the provider goes on answering nobody");
    }
}
