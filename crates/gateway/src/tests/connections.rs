//! Many connections, slow ones, and the order of a shutdown, over real sockets.

use std::{net::SocketAddr, time::Duration};

use domain::Role;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::world::World;

const SOON: Duration = Duration::from_secs(20);

/// A gateway that listens, until the sender is used.
async fn listening(world: &World) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(crate::serve(listener, world.app.clone(), async {
        let _ = stopped.await;
    }));
    (address, stop, serving)
}

/// What a connection answers to a request without a body: its head and what came with it.
async fn ask(connection: &mut TcpStream, path: &str) -> String {
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    answer(connection).await
}

async fn answer(connection: &mut TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, connection.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, connection.read_to_end(&mut rest)).await.is_ok()
}

/// A request whose handler waits for the rest of its body.
async fn at_work(address: SocketAddr, key: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/teams HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // The handler asks for the body.
    assert!(answer(&mut connection).await.starts_with("HTTP/1.1 100"));
    connection
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_crowd_of_silent_connections_keeps_nobody_out(pool: PgPool) {
    let world = World::with_settings(pool, |settings| {
        settings.connections = engine::Connections { most: 4, per_address: 4 };
    })
    .await;
    let (address, _stop, serving) = listening(&world).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut kept, "/livez").await.starts_with("HTTP/1.1 200"));
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(TcpStream::connect(address).await.unwrap());
        let mut health = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut health, "/livez").await.starts_with("HTTP/1.1 200"));
    }
    // The first of the crowd gave way, and so did the connection that was idle.
    assert!(is_closed(&mut crowd[0]).await);
    assert!(is_closed(&mut kept).await);
    serving.abort();
}

#[sqlx::test(migrations = "../../migrations")]
async fn health_is_answered_while_every_connection_is_at_work(pool: PgPool) {
    let world = World::with_settings(pool, |settings| {
        settings.connections = engine::Connections { most: 2, per_address: 2 };
    })
    .await;
    let admin = world.key("ops", Role::Admin).await;
    let (address, _stop, serving) = listening(&world).await;
    let mut working = [at_work(address, &admin).await, at_work(address, &admin).await];
    for _ in 0..40 {
        let mut health = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut health, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(is_closed(&mut health).await, "it is of the reserve");
    }
    let mut ready = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut ready, "/readyz").await.starts_with("HTTP/1.1 200"));
    let mut refused = TcpStream::connect(address).await.unwrap();
    let said = ask(&mut refused, "/api/v1/jobs").await;
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after"), "{said}");
    // Those at work lose nothing.
    working[0].write_all(&[b' '; 100]).await.unwrap();
    assert!(answer(&mut working[0]).await.starts_with("HTTP/1.1 400"));
    serving.abort();
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_shutdown_is_told_before_the_listener_closes(pool: PgPool) {
    let world = World::with_settings(pool, |settings| settings.shutdown_delay = Duration::from_secs(4)).await;
    let (address, stop, serving) = listening(&world).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    let before = ask(&mut kept, "/livez").await;
    assert!(before.starts_with("HTTP/1.1 200") && !before.contains("connection: close"), "{before}");
    stop.send(()).unwrap();
    world.app.leaving.cancelled().await;

    // New connections are taken and served, not ready, and none is kept.
    let mut balancer = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut balancer, "/readyz").await.starts_with("HTTP/1.1 503"));
    for mut connection in [TcpStream::connect(address).await.unwrap(), kept] {
        let said = ask(&mut connection, "/livez").await;
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
        assert!(is_closed(&mut connection).await);
    }
    assert!(!world.app.stopping.is_cancelled(), "this machine was too slow for the test");
    tokio::time::timeout(SOON, serving).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_request_that_outlasts_the_drain_is_told_so(pool: PgPool) {
    let world = World::with_settings(pool, |settings| settings.drain = Duration::from_millis(50)).await;
    let admin = world.key("ops", Role::Admin).await;
    let (address, stop, serving) = listening(&world).await;
    let mut working = at_work(address, &admin).await;
    stop.send(()).unwrap();
    let said = answer(&mut working).await;
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("shutting down"), "{said}");
    tokio::time::timeout(SOON, serving).await.expect("it ends").unwrap();
}

/// Begins an upload that never ends and gives what it is answered.
async fn dripping(address: SocketAddr, path: &str, key: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 1000\r\n\r\n{{");
    client.write_all(head.as_bytes()).await.unwrap();
    answer(&mut client).await
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_that_drips_is_given_up_on_every_route_that_takes_one(pool: PgPool) {
    let world = World::with_settings(pool, |settings| settings.uploads.deadline = Duration::from_millis(100)).await;
    let submit = world.key("search", Role::Submit).await;
    let (address, _stop, serving) = listening(&world).await;
    for path in [
        "/api/v1/jobs",
        "/api/v1/jobs?dry_run=true",
        "/api/v1/quotes",
        "/api/v1/schedules?name=n&cron=0%206%20*%20*%20*",
    ] {
        let said = dripping(address, path, &submit).await;
        assert!(said.starts_with("HTTP/1.1 408"), "{path}: {said}");
    }
    serving.abort();
}

/// Its place is free long before the silence of a body is too long.
#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_ends_with_its_client(pool: PgPool) {
    let world = World::with_settings(pool, |settings| settings.max_uploads = 1).await;
    let submit = world.key("search", Role::Submit).await;
    let other = world.key("chat", Role::Submit).await;
    let (address, _stop, serving) = listening(&world).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST /api/v1/quotes HTTP/1.1\r\nhost: x\r\nx-api-key: {submit}\r\ncontent-length: 1000\r\n\r\n{{");
    client.write_all(head.as_bytes()).await.unwrap();
    drop(client);
    let mut next = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /api/v1/quotes HTTP/1.1\r\nhost: x\r\nx-api-key: {other}\r\ncontent-length: 0\r\n\r\n");
    next.write_all(head.as_bytes()).await.unwrap();
    let said = answer(&mut next).await;
    assert!(said.starts_with("HTTP/1.1 422"), "it is empty, and was looked at: {said}");
    serving.abort();
}
