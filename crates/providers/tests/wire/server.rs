//! A server that answers with scripted bytes, whatever it is asked: for what no well-behaved HTTP server would send.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{chat_body, deployment, stream_body};
use domain::{Deployment, Endpoint};
use providers::{Answer, AnswerStream, Call, CallError, HttpClients, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One step of a reply. A reply without `Close`, `Reset` or `Hold` keeps the connection for the next request.
#[derive(Clone)]
pub enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    /// A byte at a time, with this pause between them.
    Drip(Vec<u8>, Duration),
    Close,
    Reset,
    /// Neither sends nor closes.
    Hold,
}

pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers its first request with the first reply and so on; the last reply serves all that follow.
    pub async fn start(replies: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (seen, opened) = (requests.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(socket, seen.clone(), replies.clone()));
            }
        });
        Self { address, requests, connections }
    }

    pub async fn answering(reply: Vec<Act>) -> Self {
        Self::start(vec![reply]).await
    }

    /// All requests so far, head and body as they came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn target(&self) -> Target {
        target(&format!("http://{}/v1", self.address))
    }
}

async fn connection(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>, replies: Vec<Vec<Act>>) {
    while let Some(request) = read_request(&mut socket).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        for act in &replies[number.min(replies.len() - 1)] {
            match act {
                Act::Send(bytes) => drop(socket.write_all(bytes).await),
                Act::Pause(time) => tokio::time::sleep(*time).await,
                Act::Drip(bytes, pause) => {
                    for byte in bytes {
                        if socket.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(*pause).await;
                    }
                }
                Act::Close => return,
                Act::Reset => return socket.set_zero_linger().unwrap(),
                Act::Hold => return std::future::pending().await,
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text.to_lowercase().find("content-length: ").map(|at| at + 16);
            let length = length.map_or(0, |at| text[at..].split("\r\n").next().unwrap().parse().unwrap());
            if bytes.len() >= head + 4 + length {
                return Some(text.into_owned());
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

pub fn send(text: impl Into<Vec<u8>>) -> Act {
    Act::Send(text.into())
}

/// A reply with a length, whole.
pub fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub const JSON: &str = "content-type: application/json\r\n";
pub const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
pub const CHAT: &str = r#"{"id":"c","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

/// One chunk of a chunked body.
pub fn chunk(text: &str) -> Act {
    send(format!("{:x}\r\n{text}\r\n", text.len()))
}

pub fn last_chunk() -> Act {
    send("0\r\n\r\n")
}

/// Patient enough for a busy machine, impatient enough for a test.
pub fn target(base_url: &str) -> Target {
    let deployment = Deployment {
        connect_timeout_ms: 2_000,
        read_timeout_ms: 2_000,
        total_timeout_ms: 10_000,
        ..deployment(base_url)
    };
    Target::resolve("d", &deployment).unwrap()
}

pub async fn call(target: &Target, endpoint: Endpoint, body: &str) -> Result<Answer, CallError> {
    let provider = providers::provider(domain::catalog::ProviderKind::Openai, &HttpClients::new());
    let call = Call { endpoint, body, attempt_id: domain::AttemptId::now_v7() };
    provider.call(target, &call).await
}

pub async fn chat(target: &Target) -> Result<Answer, CallError> {
    call(target, Endpoint::ChatCompletions, &chat_body()).await
}

pub async fn stream(target: &Target) -> Result<AnswerStream, CallError> {
    let provider = providers::provider(domain::catalog::ProviderKind::Openai, &HttpClients::new());
    let body = stream_body();
    let call = Call { endpoint: Endpoint::ChatCompletions, body: &body, attempt_id: domain::AttemptId::now_v7() };
    provider.stream(target, &call).await
}
