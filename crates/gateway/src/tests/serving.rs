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
use crate::door::{Access, Door, Surface, pass};

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

#[sqlx::test(migrations = "../../migrations")]
async fn a_panic_is_an_answer(pool: PgPool) {
    async fn fails() -> &'static str {
        panic!("prompt: tell nobody")
    }
    let world = World::new(pool).await;
    let door =
        Door { app: world.app.clone(), access: Access::Open, surface: Surface::Native, method: "GET", route: "/fails" };
    let router: Router = Router::new().route("/fails", get(fails).route_layer(from_fn_with_state(door, pass)));
    let response = router.oneshot(Request::get("/fails").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert!(!String::from_utf8_lossy(&body).contains("prompt"));
}
