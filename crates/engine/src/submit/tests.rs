//! Submission against a database of its own.

use std::{sync::Arc, time::Duration};

use admission::clock::Clock;
use chrono::{TimeDelta, Utc};
use domain::{Lane, catalog::Quotas};
use sqlx::Connection;
use store::PgPool;
use tokio::io::AsyncWriteExt;

use super::{
    testing::{Gateway, WORKER, lines, stalled, submission},
    *,
};

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_of_several_chunks_becomes_a_job(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let mut upload = br#"{"job":{"name":"reindex","priority":4,"tags":{"feature":"search"}}}"#.to_vec();
    upload.push(b'\n');
    upload.extend(lines(0..20_000));
    let accepted = gateway.submit(None, &upload[..]).await.unwrap();
    assert_eq!((accepted.accepted, accepted.replayed), (20_000, false));

    let (state, flow_pos, lines, name): (String, i32, i64, String) = sqlx::query_as(
        "select j.state, f.tail_pos, (select count(distinct line) from item where flow_id = f.flow_id), j.name
         from job j join flow f using (job_id) where f.flow_id = any (j.flow_ids) and j.accepted = f.tail_pos",
    )
    .fetch_one(&gateway.pool)
    .await
    .unwrap();
    assert_eq!((state.as_str(), flow_pos, lines, name.as_str()), ("queued", 20_000, 20_000, "reindex"));
    let one: (i32, i32, i32, String, String) =
        sqlx::query_as("select pos, line, est_in, custom_id, body from item where pos = 15000")
            .fetch_one(&gateway.pool)
            .await
            .unwrap();
    let body = r#"{"model":"e5","input":"text 15000"}"#;
    assert_eq!(one, (15_000, 15_001, 9, "doc-15000".into(), body.into()));
    let weight: i32 = sqlx::query_scalar("select weight from share").fetch_one(&gateway.pool).await.unwrap();
    assert_eq!(weight, 3);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_bad_line_is_named_and_leaves_nothing(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let mut upload = b"{\"job\":{}}\n".to_vec();
    upload.extend(lines(0..9_000));
    upload.extend(lines(500..501));
    let error = gateway.submit(Some("key"), &upload[..]).await.unwrap_err().to_string();
    assert_eq!(error, "line 9002: custom_id \"doc-500\" was used by an earlier line");
    assert_eq!(gateway.count("idempotency").await, 0, "the key is free when the caller hears of it");
    gateway.emptied().await;
    assert_eq!((gateway.count("flow").await, gateway.count("share").await), (0, 0));
    assert_eq!(gateway.submit(Some("key"), &lines(0..10)[..]).await.unwrap().accepted, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_cut_midway_leaves_nothing(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    // The reader reports the cut.
    let (client, taking) = stalled(&gateway, "key", lines(0..9_000)).await;
    let cut = tokio_util::io::StreamReader::new(futures::stream::iter([
        Ok(bytes::Bytes::from(lines(0..9_000))),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]));
    assert!(matches!(gateway.submit(None, cut).await, Err(SubmitError::Cut(_))));
    // The server drops the future, as it does when the connection closes.
    while gateway.count("item").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    taking.abort();
    drop(client);
    gateway.emptied().await;
    assert_eq!(gateway.count("flow").await, 0);
    assert_eq!(gateway.submit(Some("key"), &lines(0..10)[..]).await.unwrap().accepted, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_stands_for_one_submission(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    let (mut client, taking) = stalled(&gateway, "key", lines(0..10)).await;
    assert!(matches!(gateway.submit(Some("key"), &lines(0..20)[..]).await, Err(SubmitError::InFlight)));
    client.write_all(&lines(10..20)).await.unwrap();
    drop(client);
    let first = taking.await.unwrap().unwrap();

    let again = gateway.submit(Some("key"), &lines(0..20)[..]).await.unwrap();
    assert_eq!(again, Accepted { replayed: true, ..first });
    assert!(matches!(gateway.submit(Some("key"), &lines(0..21)[..]).await, Err(SubmitError::Mismatch)));
    let upload = lines(0..20);
    let other = Submission {
        params: JobParams { priority: Some(1), ..JobParams::default() },
        ..submission(Some("key"), &upload[..])
    };
    let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
    assert!(matches!(submit_to(gateway.intake(), who, other).await, Err(SubmitError::Mismatch)));
    assert_eq!((gateway.count("job").await, gateway.count("item").await), (1, 20));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_hundred_repetitions_at_once_make_one_job(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    let tries = (0..100).map(|_| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.submit(Some("key"), &lines(0..5)[..]).await })
    });
    let mut jobs = Vec::new();
    for ended in futures::future::join_all(tries).await {
        match ended.unwrap() {
            Ok(accepted) => jobs.push(accepted.job_id),
            Err(error) => assert!(matches!(error, SubmitError::InFlight), "{error}"),
        }
    }
    jobs.dedup();
    assert_eq!((jobs.len(), gateway.count("job").await, gateway.count("item").await), (1, 1, 5));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_replay_ignores_that_the_deadline_has_passed(pool: PgPool) {
    let mut gateway = Gateway::new(pool).await;
    let deadline = Utc::now() + TimeDelta::seconds(60);
    let upload =
        [format!("{{\"job\":{{\"deadline\":\"{}\"}}}}\n", deadline.to_rfc3339()).into_bytes(), lines(0..3)].concat();
    let first = gateway.submit(Some("key"), &upload[..]).await.unwrap();
    let (of_job, of_flow): (chrono::DateTime<Utc>, chrono::DateTime<Utc>) =
        sqlx::query_as("select j.deadline_at, f.deadline_at from job j join flow f using (job_id)")
            .fetch_one(&gateway.pool)
            .await
            .unwrap();
    assert_eq!(of_job, of_flow);
    gateway.clock = Clock::new(Utc::now() + TimeDelta::seconds(120));
    assert_eq!(gateway.submit(Some("key"), &upload[..]).await.unwrap().job_id, first.job_id);
    assert!(matches!(gateway.submit(None, &upload[..]).await, Err(SubmitError::Param { name: "deadline", .. })));
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_given_up_in_its_workers_place_ends_in_an_error(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    let (client, taking) = stalled(&gateway, "key", lines(0..10)).await;
    ingest::abandon_uploads_of(&mut gateway.pool.acquire().await.unwrap(), WORKER).await.unwrap();
    drop(client);
    assert!(matches!(taking.await.unwrap(), Err(SubmitError::Abandoned)));
    gateway.emptied().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_write_that_fails_midway_leaves_nothing(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    let (mut client, taking) = stalled(&gateway, "key", lines(0..10)).await;
    // Every write fails from here on, as on a full disk.
    sqlx::query("alter table item add constraint full_disk check (line < 9000) not valid")
        .execute(&gateway.pool)
        .await
        .unwrap();
    // It may be refused before the client has sent all of it.
    let _ = client.write_all(&lines(10..30_000)).await;
    drop(client);
    assert!(matches!(taking.await.unwrap(), Err(SubmitError::Unavailable(_))));
    gateway.emptied().await;
    assert_eq!(gateway.count("flow").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn lost_connections_leave_nothing(pool: PgPool) {
    let gateway = Arc::new(Gateway::new(pool).await);
    let mut killer = sqlx::PgConnection::connect_with(&gateway.pool.connect_options()).await.unwrap();
    let (mut client, taking) = stalled(&gateway, "key", lines(0..10)).await;
    let feeding = tokio::spawn(async move { client.write_all(&lines(10..60_000)).await });
    let mut killed = 0;
    while !taking.is_finished() {
        let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()";
        killed += sqlx::query_scalar::<_, i64>(others).fetch_one(&mut killer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(feeding.await);
    let refused = taking.await.unwrap();
    assert!(matches!(refused, Err(SubmitError::Unavailable(_))), "{refused:?} after {killed} lost connections");
    gateway.emptied().await;
    assert_eq!(gateway.count("flow").await, 0);
    assert_eq!(gateway.submit(Some("key"), &lines(0..10)[..]).await.unwrap().accepted, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn bounds_hold(pool: PgPool) {
    let mut gateway = Gateway::new(pool).await;
    gateway.settings = Settings { max_upload: 2_000, max_lines: 5, max_body: 300, ..Settings::default() };
    assert!(matches!(gateway.submit(None, &b"\n \n"[..]).await, Err(SubmitError::Empty)));
    assert!(matches!(
        gateway.submit(None, &b"\n".repeat(2_001)[..]).await,
        Err(SubmitError::TooLarge { limit: 2_000 })
    ));
    let error = gateway.submit(None, &lines(0..6)[..]).await.unwrap_err().to_string();
    assert_eq!(error, "line 6: a job has at most 5 requests");
    let document = |count| {
        let requests = lines(0..count)
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
            .join(&b',');
        [b"{\"requests\":[".to_vec(), requests, b"]}".to_vec()].concat()
    };
    let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
    let json = |count| Submission { format: Format::Json, ..submission(None, std::io::Cursor::new(document(count))) };
    assert_eq!(submit_to(gateway.intake(), who, json(2)).await.unwrap().accepted, 2);
    assert!(matches!(submit_to(gateway.intake(), who, json(3)).await, Err(SubmitError::TooLarge { limit: 300 })));
    for key in ["", "a\nb", &"x".repeat(256)] {
        assert!(matches!(gateway.submit(Some(key), &lines(0..1)[..]).await, Err(SubmitError::Param { .. })), "{key:?}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_over_its_teams_quota_is_refused_and_leaves_nothing(pool: PgPool) {
    let mut gateway = Gateway::new(pool).await;
    gateway.set_quota(Quotas { pending_requests: 20_000, ..Quotas::default() });
    let error = gateway.submit(Some("key"), &lines(0..20_001)[..]).await.unwrap_err();
    assert!(matches!(error, SubmitError::AloneOverQuota(over) if (over.used, over.asked) == (0, 20_001)), "{error}");
    gateway.emptied().await;

    gateway.count_soon().await;
    let first = gateway.submit(Some("key"), &lines(0..12_000)[..]).await.unwrap();
    let error = gateway.submit(Some("next"), &lines(0..9_000)[..]).await.unwrap_err();
    let told =
        "its team's quota pending_requests is used up: other jobs hold 12000 of 20000, and this one came to 9000";
    assert!(error.to_string().starts_with(told), "{error}");
    assert_eq!(gateway.count("idempotency").await, 1, "the key is free at once");
    // What it left goes a little later.
    for _ in 0..200 {
        if gateway.count("job").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((gateway.count("job").await, gateway.count("upload_hold").await), (1, 0));
    gateway.count_soon().await;
    let end = "update job set state = 'cancelled', finished_at = now() where job_id = $1";
    sqlx::query(end).bind(first.job_id.0).execute(&gateway.pool).await.unwrap();
    assert_eq!(gateway.submit(Some("next"), &lines(0..9_000)[..]).await.unwrap().accepted, 9_000);
}

/// Six uploads at once, of which three fit, however their chunks are interleaved.
#[sqlx::test(migrations = "../../migrations")]
async fn uploads_at_once_do_not_pass_a_quota_of_bytes_together(pool: PgPool) {
    let mut gateway = Gateway::new(pool).await;
    let bytes = i64::try_from(lines(0..20_000).len()).unwrap();
    gateway.set_quota(Quotas { pending_requests: 1 << 40, pending_gb: 1 << 20 });
    store::limit::set(&mut gateway.pool.acquire().await.unwrap(), "team:1", "pending_bytes", bytes * 3).await.unwrap();
    let gateway = Arc::new(gateway);
    let tries = (0..6).map(|_| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.submit(None, &lines(0..20_000)[..]).await })
    });
    for ended in futures::future::join_all(tries).await {
        match ended.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, SubmitError::OverQuota(over) if over.kind == "pending_bytes"), "{error}");
            }
        }
    }
    let stored: i64 = sqlx::query_scalar("select coalesce(sum(bytes), 0)::bigint from job where state = 'queued'")
        .fetch_one(&gateway.pool)
        .await
        .unwrap();
    assert!(stored <= bytes * 3, "{stored} of {}", bytes * 3);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_dry_run_counts_and_writes_nothing(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let chat = |id: &str, most: &str| {
        let body = format!(r#"{{"model":"chat","messages":[{{}}]{most}}}"#);
        format!("{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{body}}}\n")
    };
    let upload =
        [lines(0..4), chat("a", r#","max_tokens":100"#).into(), chat("b", r#","max_tokens":50"#).into()].concat();
    let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
    let dry = validate_by(&gateway.intake(), who, submission(None, &upload[..])).await.unwrap();
    assert_eq!((dry.requests, dry.bytes, dry.lane), (6, upload.len() as u64, Lane::bulk()));
    let sums: Vec<_> =
        dry.routes.iter().map(|r| (r.model.as_str(), r.requests, r.est_input_tokens, r.max_output_tokens)).collect();
    assert_eq!(sums, [("e5", 4, 32, Some(0)), ("chat", 2, 25, Some(150))]);
    // 25 tokens, and 19 that may be added to each request, at 1 USD, and 150 at 2 USD a million; the embedding model is free.
    assert_eq!(dry.max_cost_usd.map(|cost| cost.to_string()), Some("0.000363".into()));
    assert_eq!((gateway.count("job").await, gateway.count("item").await), (0, 0));

    let bad = [upload, lines(2..3)].concat();
    let refused = validate_by(&gateway.intake(), who, submission(None, &bad[..])).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Line { place: UploadPosition::Line(7), reason: LineError::Duplicate(_) }));
}

/// On one thread, as another task sees it: nearly all of an upload's slices let it run.
#[sqlx::test(migrations = "../../migrations")]
async fn an_upload_of_blank_lines_lets_other_tasks_run(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let body = [b"\n".repeat(4 << 20), lines(0..1)].concat();
    let ticks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let ticking = tokio::spawn({
        let ticks = std::sync::Arc::clone(&ticks);
        async move {
            loop {
                ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
    let mut source = Source::open(&body[..], 1 << 30).await.unwrap();
    let before = ticks.load(std::sync::atomic::Ordering::Relaxed);
    source.drain().await.unwrap();
    let of_reading = ticks.load(std::sync::atomic::Ordering::Relaxed) - before;
    let checked = validate_by(&gateway.intake(), who, submission(None, &body[..])).await.unwrap();
    let of_checking = ticks.load(std::sync::atomic::Ordering::Relaxed) - before - of_reading;
    ticking.abort();
    assert_eq!(checked.requests, 1);
    assert!(of_reading >= 10, "{of_reading} turns for others while 4 MiB were read");
    assert!(of_checking >= 30, "{of_checking} turns for others while 4,000,000 blank lines were passed over");
}

/// What would wait for ever is refused by its line, and lines before it change nothing.
#[sqlx::test(migrations = "../../migrations")]
async fn a_line_that_can_never_fit_is_refused_with_its_figures(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    gateway.limits.declare("deployment:priced-model", admission::limits::Kind::Tpm, 10_000);
    let chat = |id: &str, members: &str| {
        let body = format!(r#"{{"model":"chat","messages":[{{}}]{members}}}"#);
        format!("{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{body}}}\n")
    };
    let small = chat("a", r#","max_tokens":100,"n":90"#);
    assert_eq!(gateway.submit(None, small.as_bytes()).await.unwrap().accepted, 1);
    let large = small + &chat("b", r#","max_tokens":100,"n":101"#);
    let error = gateway.submit(None, large.as_bytes()).await.unwrap_err().to_string();
    let told =
        "line 2: it can never fit: asks 10115 tokens, limit 10000 tokens a minute (tpm of deployment:priced-model)";
    assert!(error.starts_with(told), "{error}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_line_of_many_megabytes_is_taken_up_to_the_limit_of_bodies(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let line = |bytes: usize| {
        let text = "x".repeat(bytes);
        format!(
            "{{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\"body\":{{\"model\":\"e5\",\"input\":\"{text}\"}}}}\n"
        )
    };
    assert_eq!(gateway.submit(None, line(8_000_000).as_bytes()).await.unwrap().accepted, 1);
    let error = gateway.submit(None, line(8 << 20).as_bytes()).await.unwrap_err().to_string();
    assert!(error.contains("at most 8388608 are taken, as [server] max_body_mb says"), "{error}");
}
