//! What every provider must do, held against the simulator and its journal. A new kind runs the whole suite: the simulator speaks its wire
//! format below `/v1`, and callers see the same.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod failures;
mod streams;

use std::{sync::Arc, time::Duration};

use domain::{AttemptId, Deployment, Endpoint, ErrorClass, catalog::ProviderKind};
use futures::{StreamExt, stream::FuturesUnordered};
use providers::{Answer, Call, CallError, HttpClients, Provider, StreamEnd, StreamEvent, Target};
use serde_json::{Value, json};
use simulator::Config;

const KINDS: [ProviderKind; ProviderKind::ALL.len()] = ProviderKind::ALL;

/// The kinds that have embeddings.
fn embedding_kinds() -> impl Iterator<Item = ProviderKind> {
    KINDS.into_iter().filter(|kind| providers::serves(*kind, Endpoint::Embeddings))
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
            max_output_tokens: Some(4_096),
            ..support::deployment(&format!("http://{}/v1", self.address))
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
        self.stream_of(target, &support::stream_body()).await
    }

    async fn stream_of(
        &self,
        target: &Target,
        body: &str,
    ) -> Result<(String, Result<StreamEnd, CallError>), CallError> {
        let call = Call { endpoint: Endpoint::ChatCompletions, body, attempt_id: AttemptId::now_v7() };
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
