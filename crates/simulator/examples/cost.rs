//! What one call costs the simulator: prints CPU time a call, and calls a second, at zero latency.
//!
//! The simulator runs on a thread of its own, whose CPU time the kernel counts; a client on another thread sends calls over
//! a few keep-alive connections. Linux only. `cargo run -p simulator --example cost`

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use simulator::Config;

const CALLS: usize = 100_000;
const CONNECTIONS: usize = 8;

fn main() -> std::io::Result<()> {
    let config = Config { answer_bytes: Some(1_024), embedding_dimensions: 1_536, ..Config::default() };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let task = std::fs::read_link("/proc/thread-self")?;
            let _ = sender.send((listener.local_addr()?, task));
            simulator::serve(listener, config, std::future::pending()).await
        })
    });
    let (address, task) = receiver.recv().map_err(std::io::Error::other)?;
    let cpu_ns = || -> std::io::Result<u64> {
        let stat = std::fs::read_to_string(std::path::Path::new("/proc").join(&task).join("schedstat"))?;
        let on_cpu = stat.split(' ').next().and_then(|n| n.parse().ok());
        on_cpu.ok_or_else(|| std::io::Error::other("schedstat is not as expected"))
    };

    let text = "A line of a corpus, about as long as the lines of a benchmark. ".repeat(15);
    let chat = format!(r#"{{"model":"sim-chat","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let embed = format!(r#"{{"model":"sim-embedding","input":"{text}"}}"#);
    let packed = format!(r#"{{"model":"sim-embedding","input":"{text}","encoding_format":"base64"}}"#);
    for (name, path, body) in [
        ("chat, 1 KB each way", "chat/completions", chat),
        ("embedding, 1,536 floats", "embeddings", embed),
        ("embedding, 1,536 floats in base64", "embeddings", packed),
    ] {
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\nauthorization: Bearer sk-test\r\n\
             x-client-request-id: 01938c5e-0000-7000-8000-0123456789ab\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        call(address, &request, CALLS / 10)?;
        let (began, before) = (Instant::now(), cpu_ns()?);
        call(address, &request, CALLS)?;
        let cpu_us = (cpu_ns()? - before) as f64 / 1_000.0 / CALLS as f64;
        let rate = CALLS as f64 / began.elapsed().as_secs_f64();
        println!("{name}: {cpu_us:.1} us CPU a call, {rate:.0} calls/s");
    }
    Ok(())
}

/// Sends one request on every connection, then reads the answers, until `calls` have been made.
fn call(address: SocketAddr, request: &str, calls: usize) -> std::io::Result<()> {
    let mut sockets: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            Ok(socket)
        })
        .collect::<std::io::Result<_>>()?;
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..calls / CONNECTIONS {
        for socket in &mut sockets {
            socket.write_all(request.as_bytes())?;
        }
        for socket in &mut sockets {
            read_answer(socket, &mut buffer)?;
        }
    }
    Ok(())
}

fn read_answer(socket: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut have = 0;
    loop {
        have += match socket.read(&mut buffer[have..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => n,
        };
        let Ok(text) = std::str::from_utf8(&buffer[..have]) else { continue };
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if length == Some(body.len()) {
            return Ok(());
        }
    }
}
