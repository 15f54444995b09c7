//! A receiver of webhooks: an HTTP server that keeps what it was sent.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Debug, Clone)]
pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Delivery {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

pub struct Receiver {
    pub url: String,
    got: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    /// Answers the first deliveries with `statuses`, one each, and all others with 204.
    pub async fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/hook", listener.local_addr().expect("it listens"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A delivery that broke off is the sender's to repeat.
                let _ = read(stream, &kept, statuses).await;
            }
        });
        Self { url, got }
    }

    pub fn got(&self) -> Vec<Delivery> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What Slack was told, by its headers.
    pub fn titles(&self) -> Vec<String> {
        let title = |delivery: &Delivery| {
            let body = delivery.json();
            body["blocks"][0]["text"]["text"].as_str().unwrap_or_else(|| panic!("no header: {body}")).to_owned()
        };
        self.got().iter().map(title).collect()
    }
}

/// One request a connection; `None`: it broke.
async fn read(mut stream: TcpStream, kept: &Mutex<Vec<Delivery>>, statuses: &[u16]) -> Option<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(&bytes[..head]).lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        headers.insert(name.parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?);
    }
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let status = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Delivery { headers, body });
        statuses.get(kept.len() - 1).copied().unwrap_or(204)
    };
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()
}
