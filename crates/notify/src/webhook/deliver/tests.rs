use std::sync::{Arc, Mutex};

use chrono::Utc;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use standardwebhooks::HEADER_WEBHOOK_ID;
use store::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;
use crate::{
    testing,
    webhook::secrets::{Turn, make},
};

const PEPPER: [u8; 32] = [5; 32];

#[derive(Debug, Clone)]
struct Received {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A receiver that answers these statuses in turn, the last one for ever.
async fn receiver(statuses: &'static [&'static str]) -> (String, Arc<Mutex<Vec<Received>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&received);
    tokio::spawn(async move {
        for nth in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut reader = BufReader::new(&mut socket);
            let mut headers = HeaderMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).await.unwrap();
            log.lock().unwrap().push(Received { headers, body });
            let status = statuses[nth.min(statuses.len() - 1)];
            let answer = format!(
                "HTTP/1.1 {status}\r\nretry-after: 30\r\nlocation: {url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                url = "http://127.0.0.1:1/"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, received)
}

async fn waiting(pool: &PgPool, url: &str) {
    let webhook = outbox::NewWebhook {
        webhook_id: uuid::Uuid::now_v7(),
        job_id: 1,
        team_id: 9,
        url,
        payload: r#"{"type":"job.completed"}"#,
    };
    outbox::insert(&mut pool.acquire().await.unwrap(), webhook).await.unwrap();
}

async fn row(pool: &PgPool) -> (i32, bool, bool, Option<String>) {
    sqlx::query_as("select tries, delivered_at is not null, given_up_at is not null, last_error from webhook_outbox")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn due_again(pool: &PgPool) {
    sqlx::query("update webhook_outbox set next_try_at = now()").execute(pool).await.unwrap();
}

fn sender(pool: &PgPool) -> Sender<'_, Webhooks<'static>> {
    Sender::new(pool, Webhooks { pepper: &PEPPER }, true)
}

/// When the only message is tried again, in seconds.
async fn next_try_in(pool: &PgPool) -> f64 {
    sqlx::query_scalar("select extract(epoch from next_try_at - now())::double precision from webhook_outbox")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_delivery_is_signed_and_a_failed_one_tried_again(pool: PgPool) {
    let (url, received) = receiver(&["503 Busy", "204 No Content"]).await;
    waiting(&pool, &url).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 0);
    assert_eq!(row(&pool).await, (1, false, false, Some("the receiver answered 503".into())));
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 0, "not due yet");
    due_again(&pool).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 1);
    assert_eq!(row(&pool).await, (2, true, false, None));

    let received = received.lock().unwrap().clone();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].headers[HEADER_WEBHOOK_ID], received[1].headers[HEADER_WEBHOOK_ID]);
    let key = Webhook::from_bytes(secret_bytes(&PEPPER, 9)).unwrap();
    for delivery in &received {
        key.verify(&delivery.body, &delivery.headers).unwrap();
        assert!(key.verify(b"{}", &delivery.headers).is_err());
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_redirect_is_a_failure_and_410_the_end(pool: PgPool) {
    let (url, received) = receiver(&["302 Found", "410 Gone"]).await;
    waiting(&pool, &url).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 0);
    assert_eq!(row(&pool).await, (1, false, false, Some("the receiver answered 302".into())));
    due_again(&pool).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 0);
    assert_eq!(row(&pool).await, (2, false, true, Some("the receiver answered 410".into())));
    due_again(&pool).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 0);
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_private_host_receives_nothing(pool: PgPool) {
    let (url, received) = receiver(&["204 No Content"]).await;
    waiting(&pool, &url).await;
    waiting(&pool, &url.replace("127.0.0.1", "localhost")).await;
    let strict = Sender::new(&pool, Webhooks { pepper: &PEPPER }, false);
    assert_eq!(strict.deliver_due(Utc::now()).await.unwrap(), 0);
    let errors: Vec<(String, bool)> =
        sqlx::query_as("select last_error, given_up_at is not null from webhook_outbox order by url")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert!(errors.iter().all(|(error, _)| error.contains("private address")), "{errors:?}");
    // What the name resolves to may change.
    assert_eq!(errors.iter().map(|(_, given_up)| *given_up).collect::<Vec<_>>(), [true, false]);
    assert!(received.lock().unwrap().is_empty());
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_receiver_refuses_is_given_up_after_a_few_tries_and_said(pool: PgPool) {
    sqlx::query("insert into team (name) values ('t')").execute(&pool).await.unwrap();
    sqlx::query("insert into job (job_id, team_id, key_id, lane, state) values (1, 1, 'k', 'bulk', 'running')")
        .execute(&pool)
        .await
        .unwrap();
    let (url, received) = receiver(&["404 Not Found"]).await;
    waiting(&pool, &url).await;
    for _ in 0..9 {
        sender(&pool).deliver_due(Utc::now()).await.unwrap();
        due_again(&pool).await;
    }
    assert_eq!(row(&pool).await, (3, false, true, Some("the receiver answered 404".into())));
    assert_eq!(received.lock().unwrap().len(), 3);
    let said: Vec<(String, serde_json::Value)> =
        sqlx::query_as("select action, details from audit where job_id = 1").fetch_all(&pool).await.unwrap();
    assert_eq!((said.len(), said[0].0.as_str(), &said[0].1["tries"]), (1, "give_up", &3.into()));
    let shown = format!("{said:?} {:?}", row(&pool).await);
    assert!(!shown.contains("127.0.0.1"), "the history names no address: {shown}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_receiver_that_asks_for_a_wait_gets_it(pool: PgPool) {
    let (url, _) = receiver(&["429 Too Many Requests", "500 Oops"]).await;
    waiting(&pool, &url).await;
    sender(&pool).deliver_due(Utc::now()).await.unwrap();
    let wait = next_try_in(&pool).await;
    assert!((25.0..40.0).contains(&wait), "{wait}");
    due_again(&pool).await;
    sender(&pool).deliver_due(Utc::now()).await.unwrap();
    assert!(next_try_in(&pool).await > 45.0, "what says nothing of a wait is tried by the schedule");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_message_is_signed_with_both_secrets_while_they_are_turned(pool: PgPool) {
    let notifier = testing::notifier(&pool).await;
    let deliver = async |url: &str| {
        let webhook = outbox::NewWebhook {
            webhook_id: uuid::Uuid::now_v7(),
            job_id: 1,
            team_id: 1,
            url,
            payload: r#"{"type":"job.completed"}"#,
        };
        outbox::insert(&mut pool.acquire().await.unwrap(), webhook).await.unwrap();
        let outbox = Webhooks { pepper: notifier.pepper.expose_secret() };
        assert_eq!(Sender::new(&pool, outbox, true).deliver_due(Utc::now()).await.unwrap(), 1);
    };
    let (url, received) = receiver(&["204 No Content"]).await;
    let first = make(&notifier, "t", Turn::First, "k").await.unwrap();
    assert!(make(&notifier, "t", Turn::First, "k").await.is_err(), "it is shown once");
    deliver(&url).await;
    let second = make(&notifier, "t", Turn::Rotate { overlap: Duration::from_secs(60) }, "k").await.unwrap();
    deliver(&url).await;
    let third = make(&notifier, "t", Turn::Rotate { overlap: Duration::ZERO }, "k").await.unwrap();
    deliver(&url).await;
    let received = received.lock().unwrap().clone();
    for (made, good) in [(&first, [true, true, false]), (&second, [false, true, false]), (&third, [false, false, true])]
    {
        let key = Webhook::new(made.secret.expose_secret()).unwrap();
        let verified: Vec<bool> =
            received.iter().map(|delivery| key.verify(&delivery.body, &delivery.headers).is_ok()).collect();
        assert_eq!(verified, good);
    }
    let kept: Vec<String> =
        sqlx::query_scalar("select sealed from team_webhook_secret").fetch_all(&pool).await.unwrap();
    assert!(kept.iter().all(|sealed| sealed.starts_with("sealed:")), "{kept:?}");
    assert!(!format!("{first:?}").contains("whsec_"), "no secret is shown by accident");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_sealed_url_is_opened_to_be_called_and_a_replica_of_before_does_not_give_it_up(pool: PgPool) {
    let (url, received) = receiver(&["204 No Content"]).await;
    let with_user = url.replace("http://", "http://user:hunter2@");
    let sealed = url::seal(&PEPPER, &with_user).unwrap();
    waiting(&pool, &sealed).await;
    // As the version before does with what it takes for a bad URL.
    sqlx::query(
        "update webhook_outbox set tries = tries + 1, given_up_at = now(),
             last_error = 'it is not an absolute URL of at most 2048 bytes, such as https://hooks.example.com/tollway'",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!((row(&pool).await.0, row(&pool).await.2), (0, false));
    due_again(&pool).await;
    assert_eq!(sender(&pool).deliver_due(Utc::now()).await.unwrap(), 1);
    assert!(received.lock().unwrap()[0].headers["authorization"].to_str().unwrap().starts_with("Basic "));
    let kept: String = sqlx::query_scalar("select url from webhook_outbox").fetch_one(&pool).await.unwrap();
    assert!(!kept.contains("hunter2") && !kept.contains("127.0.0.1"), "{kept}");
}
