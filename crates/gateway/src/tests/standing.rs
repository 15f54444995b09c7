//! Streams that outlive their key, or the process.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    http::Response,
};
use domain::Role;
use engine::admit::{Caller, Permission, authenticate};
use futures::{StreamExt, stream};
use sqlx::PgPool;

use super::world::World;
use crate::{standing::Standing, surface::Surface};

const SOON: Duration = Duration::from_secs(20);

async fn caller(world: &World, role: Role) -> Arc<Caller> {
    let key = world.key("search", role).await;
    authenticate(&world.app.engine, &key, None).await.unwrap()
}

/// An answer that says `first` and then nothing for ever.
fn endless(media: &str) -> Response<Body> {
    let pieces = stream::iter([Ok::<_, std::convert::Infallible>("first")]).chain(stream::pending());
    Response::builder().header("content-type", media).body(Body::from_stream(pieces)).unwrap()
}

/// The answer as this caller gets it, after its first piece.
async fn begun(world: &World, caller: &Arc<Caller>, media: &str, surface: Surface) -> BodyDataStream {
    let standing = Standing::new(world.app.clone(), Arc::clone(caller), Permission::ReadResults);
    let mut pieces = standing.of_response(endless(media), surface).into_body().into_data_stream();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "first");
    pieces
}

/// The last words of a stream that ends; `None` when it is cut.
async fn last(mut pieces: BodyDataStream) -> Option<String> {
    let piece = tokio::time::timeout(SOON, pieces.next()).await.expect("it ends").expect("not as if it were whole");
    let text = piece.ok().map(|bytes| String::from_utf8(bytes.into()).unwrap());
    assert!(text.is_none() || pieces.next().await.is_none(), "nothing comes after it");
    text
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_open_stream_ends_when_its_key_is_revoked(pool: PgPool) {
    let world = World::new(pool).await;
    let (revoked, other) = (caller(&world, Role::Submit).await, caller(&world, Role::Submit).await);
    let lines = begun(&world, &revoked, "application/x-ndjson", Surface::Native).await;
    let events = begun(&world, &revoked, "text/event-stream", Surface::Native).await;
    let chat = begun(&world, &revoked, "text/event-stream; charset=utf-8", Surface::OpenAi).await;
    let mut others = begun(&world, &other, "application/x-ndjson", Surface::Native).await;
    store::key::revoke(&mut world.pool.acquire().await.unwrap(), &revoked.key_id).await.unwrap();
    world.app.engine.keys.refresh(&world.pool).await.unwrap();
    assert_eq!(last(lines).await, None);
    let said = last(events).await.unwrap();
    assert!(said.starts_with("event: error\ndata: {") && said.contains("\"code\":\"unauthorized\""), "{said}");
    let said = last(chat).await.unwrap();
    assert!(said.starts_with("data: {\"error\":") && said.contains("invalid_api_key"), "{said}");
    assert!(tokio::time::timeout(Duration::from_millis(600), others.next()).await.is_err(), "another key's goes on");
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_open_stream_ends_when_its_team_is_disabled_or_its_role_changed(pool: PgPool) {
    let world = World::new(pool).await;
    let read = caller(&world, Role::Read).await;
    let lines = begun(&world, &read, "application/x-ndjson", Surface::Native).await;
    sqlx::query("update api_key set role = 'finance', changed_at = now() where key_id = $1")
        .bind(&*read.key_id)
        .execute(&world.pool)
        .await
        .unwrap();
    world.app.engine.keys.refresh(&world.pool).await.unwrap();
    assert_eq!(last(lines).await, None);

    let submit = caller(&world, Role::Submit).await;
    let lines = begun(&world, &submit, "application/x-ndjson", Surface::Native).await;
    store::team::disable(&mut world.pool.acquire().await.unwrap(), "search").await.unwrap();
    world.app.engine.keys.refresh(&world.pool).await.unwrap();
    assert_eq!(last(lines).await, None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stream_that_outlasts_the_drain_ends_with_the_error_of_its_surface(pool: PgPool) {
    let world = World::new(pool).await;
    let caller = caller(&world, Role::Submit).await;
    let lines = begun(&world, &caller, "application/x-ndjson", Surface::Native).await;
    let chat = begun(&world, &caller, "text/event-stream", Surface::OpenAi).await;
    world.app.cutting.cancel();
    assert_eq!(last(lines).await, None);
    let said = last(chat).await.unwrap();
    let error: serde_json::Value = serde_json::from_str(said.trim().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&"server_error".into(), &"unavailable".into()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_ends_when_its_key_is_revoked(pool: PgPool) {
    let world = World::new(pool).await;
    let caller = caller(&world, Role::Submit).await;
    let standing = Standing::new(world.app.clone(), Arc::clone(&caller), Permission::SubmitJobs);
    let request = axum::extract::Request::new(endless("").into_body());
    let mut body = standing.of_request(request).into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "first");
    store::key::revoke(&mut world.pool.acquire().await.unwrap(), &caller.key_id).await.unwrap();
    world.app.engine.keys.refresh(&world.pool).await.unwrap();
    assert_eq!(last(body).await, None);
    let answer = standing.of_response(Response::new(Body::from("a handler's own words")), Surface::Native);
    assert_eq!(answer.status(), 401);
}
