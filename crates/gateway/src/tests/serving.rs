//! Connections, over a real socket.

use std::time::Duration;

use axum::{Router, body::Body, http::Request, middleware::from_fn_with_state, routing::get};
use domain::Role;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::ServiceExt;

use super::world::World;
use crate::{
    access::{Access, AccessLayer, authorize},
    surface::Surface,
};

#[sqlx::test(migrations = "../../migrations")]
async fn a_shutdown_ends_idle_connections_and_takes_no_new_ones(pool: PgPool) {
    let world = World::new(pool).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(crate::serve(listener, world.app.clone(), async {
        let _ = stopped.await;
    }));

    let mut client = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 512];
        let read = client.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "the connection is kept");
    }
    stop.send(()).unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "an idle connection is closed at once");
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("nothing is left to wait for").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_refused_upload_hears_why_and_the_connection_goes_on(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(crate::serve(listener, world.app.clone(), std::future::pending()));

    let mut client = TcpStream::connect(address).await.unwrap();
    let body = vec![b'x'; 20 << 20];
    for (path, key, expected) in [
        ("/api/v1/jobs", "tw_wrong", "HTTP/1.1 401"),
        ("/api/v1/jobs?priority=high", admin.as_str(), "HTTP/1.1 400"),
        ("/api/v1/teams", admin.as_str(), "HTTP/1.1 413"),
        ("/api/v1/jobs", admin.as_str(), "HTTP/1.1 422"),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n", body.len());
        // Like most clients, this one sends all before it reads.
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
    serving.abort();
}

/// Writes a request whose body follows in a packet of its own, and gives the answer's head.
async fn in_two_packets(client: &mut TcpStream, head: &str, body: &str) -> String {
    let length = body.len();
    client.write_all(format!("{head}\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    // The answer is there before the body is sent: nothing of the body was needed for it.
    let read = client.read(&mut answer).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).to_lowercase()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_request_that_is_refused_before_its_body_came_keeps_the_connection(pool: PgPool) {
    let world = World::new(pool).await;
    let reader = world.key("search", Role::Read).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(crate::serve(listener, world.app.clone(), std::future::pending()));
    let body = "x".repeat(3000);
    let mut client = TcpStream::connect(address).await.unwrap();
    for (head, status) in [
        ("POST /chat/completions HTTP/1.1".to_owned(), 404),
        ("PUT /api/v1/jobs HTTP/1.1".to_owned(), 405),
        ("POST /v1/chat/completions HTTP/1.1".to_owned(), 401),
        (format!("POST /v1/embeddings HTTP/1.1\r\nx-api-key: {reader}"), 403),
        ("POST /api/v1/teams/%00 HTTP/1.1".to_owned(), 400),
        ("POST /livez HTTP/1.1".to_owned(), 405),
    ] {
        let answer = in_two_packets(&mut client, &head, &body).await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{head}: {answer}");
        assert!(!answer.contains("connection: close"), "{head}: {answer}");
    }
    // A client that waits for leave to send its body never sends it: it is told that the connection ends.
    let waiting = "POST /nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    client.write_all(waiting.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 404") && answer.contains("connection: close"), "{answer}");
    serving.abort();
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_panic_is_an_answer(pool: PgPool) {
    async fn fails() -> &'static str {
        panic!("prompt: tell nobody")
    }
    let world = World::new(pool).await;
    let layer = AccessLayer {
        app: world.app.clone(),
        access: Access::Open,
        surface: Surface::Native,
        method: "GET",
        route: "/fails",
    };
    let router: Router = Router::new().route("/fails", get(fails).route_layer(from_fn_with_state(layer, authorize)));
    let response = router.oneshot(Request::get("/fails").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert!(!String::from_utf8_lossy(&body).contains("prompt"));
}
