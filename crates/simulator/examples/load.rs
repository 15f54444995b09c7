//! A closed-loop load generator for `scripts/bench`: some connections to each of two servers in turn, so that both are
//! measured in one run on one machine. Prints a line for each: name, calls, p50 and p99 in µs.
//!
//! `load CONNECTIONS SECONDS NAME=HOST:PORT/PATH[#KEY] …`

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BODY: &str = r#"{"model":"bench","messages":[{"role":"user","content":"How long is a piece of string?"}]}"#;
/// The servers take turns of this length.
const TURN: Duration = Duration::from_secs(1);

struct Server {
    name: String,
    address: String,
    request: Vec<u8>,
    micros: Vec<u32>,
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [connections, seconds, servers @ ..] = args.as_slice() else {
        eprintln!("usage: load CONNECTIONS SECONDS NAME=HOST:PORT/PATH[#KEY] ...");
        std::process::exit(2);
    };
    let connections: usize = connections.parse().expect("a number of connections");
    let rounds: u64 = seconds.parse().expect("a number of seconds");
    let mut servers: Vec<Server> = servers.iter().map(|text| server(text)).collect();
    // The first turn of each warms connections and caches up, and is not counted.
    for round in 0..=rounds {
        for server in &mut servers {
            let micros = turn(server, connections).await;
            if round > 0 {
                server.micros.extend(micros);
            }
        }
    }
    for server in &mut servers {
        server.micros.sort_unstable();
        let at = |share: f64| server.micros[((server.micros.len() - 1) as f64 * share) as usize];
        println!("{} {} {} {}", server.name, server.micros.len(), at(0.5), at(0.99));
    }
}

fn server(text: &str) -> Server {
    let (name, url) = text.split_once('=').expect("NAME=HOST:PORT/PATH");
    let (url, key) = url.split_once('#').unwrap_or((url, "none"));
    let (address, path) = url.split_once('/').expect("HOST:PORT/PATH");
    let request = format!(
        "POST /{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    Server { name: name.to_owned(), address: address.to_owned(), request: request.into_bytes(), micros: Vec::new() }
}

async fn turn(server: &Server, connections: usize) -> Vec<u32> {
    let until = Instant::now() + TURN;
    let callers = (0..connections).map(|_| {
        let (address, request) = (server.address.clone(), server.request.clone());
        tokio::spawn(async move { call_until(&address, &request, until).await })
    });
    let mut all = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        all.extend(caller.await.expect("a caller panicked"));
    }
    all
}

async fn call_until(address: &str, request: &[u8], until: Instant) -> Vec<u32> {
    let mut stream = TcpStream::connect(address).await.expect("no connection");
    stream.set_nodelay(true).expect("nodelay");
    let (mut micros, mut buffer) = (Vec::new(), vec![0u8; 64 << 10]);
    while Instant::now() < until {
        let started = Instant::now();
        stream.write_all(request).await.expect("the request could not be sent");
        let mut filled = 0;
        loop {
            let n = stream.read(&mut buffer[filled..]).await.expect("the answer broke off");
            assert!(n > 0, "the server closed the connection");
            filled += n;
            if whole(&buffer[..filled]) {
                break;
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    micros
}

/// Whether the head and as many bytes as it announces are there.
fn whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|n| n.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.expect("an answer without content-length")
}
