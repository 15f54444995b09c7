use std::sync::{Arc, Mutex};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::HEADER_WEBHOOK_ID;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;

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
                "HTTP/1.1 {status}\r\nlocation: {url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
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

fn sender(pool: &PgPool) -> Sender<'_> {
    Sender { pool, pepper: &PEPPER, private_allowed: true }
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
    let key = Webhook::new(&super::super::secret(&PEPPER, 9)).unwrap();
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
    let strict = Sender { private_allowed: false, ..sender(&pool) };
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
