//! CPU time of one call, in microseconds, of the calling thread alone: `cargo run -p providers --example cpu_per_call`.
//! The server on the other end is a loop on a thread of its own and does not count.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use domain::{AttemptId, Deployment, Endpoint, catalog::ProviderKind};
use futures::{StreamExt, stream};
use providers::{Call, HttpClients, Target};

const CALLS: usize = 20_000;
const AT_ONCE: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = "word ".repeat(160);
    let chat = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":160,"total_tokens":360}}}}"#
    );
    let floats: Vec<f32> = (0..1536).map(|n| ((n * 7919 % 3001) as f32 / 3001.0 - 0.5) / 17.0).collect();
    let list: Vec<String> = floats.iter().map(f32::to_string).collect();
    let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    let packed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let embedding = |value: String| {
        format!(
            r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":{value}}}],"model":"m","usage":{{"prompt_tokens":200,"total_tokens":200}}}}"#
        )
    };
    let ask = format!(r#"{{"model":"r","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let embed = format!(r#"{{"model":"r","input":"{text}"}}"#);
    measure("chat, 1 KB each way", Endpoint::ChatCompletions, &ask, chat)?;
    measure("1,536 floats as text", Endpoint::Embeddings, &embed, embedding(format!("[{}]", list.join(","))))?;
    measure("1,536 floats as base64", Endpoint::Embeddings, &embed, embedding(format!("\"{packed}\"")))
}

fn measure(name: &str, endpoint: Endpoint, body: &str, answer: String) -> Result<(), Box<dyn std::error::Error>> {
    let base_url = format!("http://{}/v1", serve(answer)?);
    let deployment = Deployment { base_url, ..template()? };
    let target = Target::resolve("d", &deployment)?;
    let provider = providers::provider(ProviderKind::Openai, &HttpClients::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    #[expect(clippy::result_large_err, reason = "as in the crate")]
    let calls = |count: usize| {
        runtime.block_on(async {
            stream::iter(0..count)
                .map(|_| async {
                    let call = Call { endpoint, body, attempt_id: AttemptId::now_v7() };
                    provider.call(&target, &call).await.map(drop)
                })
                .buffer_unordered(AT_ONCE)
                .fold(Ok(()), async |all, one| all.and(one))
                .await
        })
    };
    calls(1_000)?;
    let before = cpu_ns()?;
    calls(CALLS)?;
    println!("{name}: {:.1} µs", (cpu_ns()? - before) as f64 / 1e3 / CALLS as f64);
    Ok(())
}

fn template() -> Result<Deployment, serde_json::Error> {
    serde_json::from_str(r#"{"kind":"openai","base_url":"http://x","model":"m"}"#)
}

/// Answers every request on every connection with `answer`.
fn serve(answer: String) -> std::io::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
    let reply: Arc<str> = (head + &answer).into();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let reply = reply.clone();
            std::thread::spawn(move || answer_all(socket, &reply));
        }
    });
    Ok(address)
}

fn answer_all(mut socket: TcpStream, reply: &str) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    // The requests here are short: one read takes one.
    while socket.read(&mut buffer)? > 0 {
        socket.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// CPU time of this thread, user and system, in nanoseconds.
fn cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}
