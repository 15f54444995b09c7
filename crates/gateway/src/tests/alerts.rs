//! Alerts through the API.

use domain::{AlertKind, Role, alert::Said};
use sqlx::PgPool;
use store::alert::{Key, NewAlert, NewDelivery};
use uuid::Uuid;

use super::world::World;

async fn alert(pool: &PgPool, about: &str) {
    let key = Key {
        kind: AlertKind::Budget,
        about: about.into(),
        threshold: 80,
        since: chrono::DateTime::UNIX_EPOCH,
        until: None,
    };
    let said = Said { title: format!("Budget {about}"), text: "t".into(), fields: Vec::new() };
    let (alert_id, delivery_id) = (Uuid::now_v7(), Uuid::now_v7());
    let mut conn = pool.acquire().await.unwrap();
    let new = NewAlert {
        alert_id,
        key: &key,
        object: about,
        team: None,
        said: &said,
        at: chrono::Utc::now(),
        is_silent: false,
    };
    assert!(store::alert::insert(&mut conn, &new).await.unwrap());
    let delivery = NewDelivery { delivery_id, alert_id, receiver: "ops", payload: "{}" };
    store::alert::send(&mut conn, delivery).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn alerts_are_listed_in_pages_the_newest_first(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    for about in ["a", "b", "c"] {
        alert(&pool, about).await;
    }
    let key = world.key("ops", Role::Finance).await;
    let first = world.ask("GET", "/api/v1/alerts?limit=2", Some(&key), "").await.json;
    assert_eq!((&first["data"][0]["object"], &first["data"][1]["object"]), (&"c".into(), &"b".into()), "{first}");
    assert_eq!(first["data"][0]["title"], "Budget c");
    assert_eq!(first["data"][0]["deliveries"][0]["state"], "waiting");
    let next = format!("/api/v1/alerts?limit=2&cursor={}", first["next"].as_str().unwrap());
    let rest = world.ask("GET", &next, Some(&key), "").await.json;
    assert_eq!((rest["data"].as_array().map(Vec::len), rest["next"].is_null()), (Some(1), true), "{rest}");
    let id = rest["data"][0]["id"].as_str().unwrap();
    assert_eq!(world.ask("GET", &format!("/api/v1/alerts/{id}"), Some(&key), "").await.json, rest["data"][0]);
    let unknown = format!("/api/v1/alerts/{}", Uuid::nil());
    assert_eq!(world.ask("GET", &unknown, Some(&key), "").await.status, 404);
    assert_eq!(world.ask("GET", "/api/v1/alerts?cursor=eHg", Some(&key), "").await.status, 400);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_test_needs_a_receiver(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    let refused = world.ask("POST", "/api/v1/alerts/test", Some(&key), "").await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (409, Some("conflict")), "{}", refused.json);
    assert!(refused.json["detail"].as_str().is_some_and(|detail| detail.contains("[alerts.NAME]")), "{}", refused.json);
    let wrong = world.ask("POST", "/api/v1/alerts/test", Some(&key), r#"{"to": "x"}"#).await;
    assert_eq!(wrong.status, 400, "{}", wrong.json);
}
