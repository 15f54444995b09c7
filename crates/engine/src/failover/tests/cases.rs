//! One fault each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{ErrorClass, JobState};
use futures::StreamExt;
use providers::HttpClients;
use store::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::world::{NOWHERE, Scripted, ScriptedOutcome, World, body, catalog, line, number, used};
use crate::{
    admit::Caller,
    call::Providers,
    sync_calls::{DirectAnswer, DirectError},
};

const SOON: Duration = Duration::from_secs(30);
const AT_ONCE: Duration = Duration::from_millis(1);
const ONE: &[(&str, &str)] = &[("only", NOWHERE)];
const TO_ONE: &[(&str, &[&str])] = &[("chat", &["only"])];

fn lines(count: usize, text: &str) -> String {
    (0..count).map(|n| line(&format!("line-{n}"), "chat", &format!("{text} {n}"))).collect()
}

/// An answer that is billed and is none, of a provider that fails everybody.
#[sqlx::test(migrations = "../../migrations")]
async fn paid_failures_are_attempts_whatever_the_breaker_says(pool: PgPool) {
    let provider = Scripted::new(|_, _| (AT_ONCE, ScriptedOutcome::FailUsing(ErrorClass::Garbage, used())));
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    let job = world.submit(&team, 3, &lines(5, "odd")).await;
    let job = world.ended(job, SOON).await.expect("each request has a last try");
    assert_eq!((job.state, job.counts.failed), (JobState::Completed, 5));
    assert_eq!(provider.calls(), 15);
    world.end().await;
}

/// The same over several deployments: no more than its attempts, though there are others left to ask.
#[sqlx::test(migrations = "../../migrations")]
async fn paid_failures_of_several_deployments_are_counted_together(pool: PgPool) {
    let provider = Scripted::new(|_, _| (AT_ONCE, ScriptedOutcome::Fail(ErrorClass::Cut)));
    let deployments = [("a", NOWHERE), ("b", NOWHERE), ("c", NOWHERE)];
    let world = World::scripted(&pool, catalog(&deployments, &[("chat", &["a", "b", "c"])]), &provider).await;
    let team = world.team("a").await;
    let job = world.submit(&team, 2, &lines(4, "cut")).await;
    assert_eq!(world.ended(job, SOON).await.unwrap().counts.failed, 4);
    assert_eq!(provider.calls(), 8);
    assert_eq!(world.number("select count(*) from ledger where is_final").await, 4);
    world.end().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_poisoned_job_ends_and_keeps_nobody_out(pool: PgPool) {
    for class in [ErrorClass::ServerError, ErrorClass::Forbidden, ErrorClass::Credential, ErrorClass::Garbage] {
        let provider = Scripted::new(move |_, body| match body.contains("poison") {
            true => (AT_ONCE, ScriptedOutcome::Fail(class)),
            false => (AT_ONCE, ScriptedOutcome::Answer),
        });
        let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
        let name = class.as_str().replace('_', "-");
        let (poisoner, other) =
            (world.team(&format!("poisoner-{name}")).await, world.team(&format!("other-{name}")).await);
        let job = world.submit(&poisoner, 3, &lines(60, "poison")).await;
        let is_over = AtomicBool::new(false);
        let calling = async {
            let mut calls = 0;
            while !is_over.load(Ordering::Relaxed) {
                calls += 1;
                let answer = world.call(&other, body("chat", &format!("sound {calls}"))).await;
                assert!(answer.is_ok(), "{class:?}, call {calls}: {:?}", answer.err());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ending = async {
            let job = world.ended(job, SOON).await;
            is_over.store(true, Ordering::Relaxed);
            job.unwrap_or_else(|| panic!("{class:?}: it does not end"))
        };
        let ((), job) = tokio::join!(calling, ending);
        assert_eq!(job.counts.failed, 60, "{class:?}");
        world.end().await;
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_failed_call_ends_as_one_final_row(pool: PgPool) {
    let provider = Scripted::new(|_, body| {
        let outcomes = [
            ("server", ScriptedOutcome::Fail(ErrorClass::ServerError)),
            ("garbage", ScriptedOutcome::Fail(ErrorClass::Garbage)),
            ("invalid", ScriptedOutcome::Fail(ErrorClass::InvalidRequest)),
            ("panic", ScriptedOutcome::Panic),
        ];
        let outcome = outcomes
            .into_iter()
            .find(|(word, _)| body.contains(word))
            .map_or(ScriptedOutcome::Answer, |(_, outcome)| outcome);
        (AT_ONCE, outcome)
    });
    let deployments = [("first", NOWHERE), ("second", NOWHERE)];
    let world = World::scripted(&pool, catalog(&deployments, &[("chat", &["first", "second"])]), &provider).await;
    let team = world.team("a").await;
    for (text, calls) in [("server", 2), ("garbage", 2), ("invalid", 1), ("panic", 1), ("sound", 1)] {
        let before = provider.calls();
        let answer = world.call(&team, body("chat", text)).await;
        assert_eq!(answer.is_ok(), text == "sound", "{text}");
        assert_eq!(provider.calls() - before, calls, "{text}");
    }
    let engine = world.end().await;
    assert_eq!(number(&pool, "select count(*) from ledger").await, 7);
    assert_eq!(number(&pool, "select count(*) from ledger where is_final").await, 5);
    assert_eq!(number(&pool, "select count(distinct request_id) from ledger where is_final").await, 5);
    assert_eq!(number(&pool, "select count(*) from intent").await, 0);
    assert_eq!(engine.control.budgets.under_way(), 0, "nothing is left reserved");
}

/// Who is throttled and who finds the deployment cooling hear the same, and whose limit it is.
#[sqlx::test(migrations = "../../migrations")]
async fn a_throttled_call_and_the_next_one_hear_the_same(pool: PgPool) {
    let retry_after = Duration::from_secs(500);
    let provider =
        Scripted::new(move |_, _| (AT_ONCE, ScriptedOutcome::Refuse { class: ErrorClass::Throttled, retry_after }));
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    for n in 0..2 {
        let Err(DirectError::Exhausted { class, retry_after, message }) = world.call(&team, body("chat", "x")).await
        else {
            panic!("call {n} was answered");
        };
        assert_eq!((class, retry_after), (ErrorClass::Throttled, Some(Duration::from_secs(60))), "{message}");
    }
    assert_eq!(provider.calls(), 1);
    world.end().await;
}

/// Its call was sent, so its answer is worth a moment's wait: it is stored, and booked at what it cost.
#[sqlx::test(migrations = "../../migrations")]
async fn the_calls_of_a_cancelled_job_are_drained(pool: PgPool) {
    let provider = Scripted::new(|_, body| match body.contains("hang") {
        true => (AT_ONCE, ScriptedOutcome::Hang),
        false => (Duration::from_millis(700), ScriptedOutcome::Answer),
    });
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    let job = world.submit(&team, 3, &(lines(3, "slow") + &line("hangs", "chat", "hang"))).await;
    while provider.calls() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let by = crate::jobs::By { scope: store::job::Scope::All, key_id: "k" };
    crate::jobs::cancel(&world.engine, by, job).await.unwrap();
    let job = world.ended(job, SOON).await.unwrap();
    assert_eq!((job.state, job.counts.succeeded, job.counts.cancelled), (JobState::Cancelled, 3, 1));
    let hung_up = "select count(*) from ledger where status = 'cancelled' and usage_source = 'estimated'
                   and price_status = 'estimated' and contracted_cost between 1 and reserved";
    assert_eq!(world.number(hung_up).await, 1);
    let exact = "select count(*) from ledger where status = 'succeeded' and usage_source = 'provider'";
    assert_eq!(world.number(exact).await, 3);
    let engine = world.end().await;
    assert_eq!(engine.control.budgets.under_way(), 0);
}

/// A drain waits for calls that nobody waits for any more, and cuts and books those that take longer.
#[sqlx::test(migrations = "../../migrations")]
async fn a_drain_holds_for_calls_without_callers(pool: PgPool) {
    let provider = Scripted::new(|_, body| match body.contains("hang") {
        true => (AT_ONCE, ScriptedOutcome::Hang),
        false => (Duration::from_millis(600), ScriptedOutcome::Answer),
    });
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    for text in ["slow", "hang"] {
        let hangs_up = tokio::time::timeout(Duration::from_millis(200), world.call(&team, body("chat", text)));
        assert!(hangs_up.await.is_err());
    }
    assert_eq!(world.engine.calls.len(), 2);
    world.engine.calls.end(Duration::from_secs(2)).await;
    assert!(world.engine.calls.is_empty());
    world.end().await;
    let rows = "select count(*) from ledger where is_final and status in ('succeeded', 'cancelled')";
    assert_eq!(number(&pool, rows).await, 2);
    assert_eq!(number(&pool, "select count(*) from intent").await, 0);
}

/// A provider that streams this many events, the first at once, and then waits.
async fn streaming(events: usize, size: usize, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 16 << 10];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
                let event = |content: &str, finish: &str| {
                    format!(
                        r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{content}"}},"finish_reason":{finish}}}]}}"#
                    ) + "\n\n"
                };
                for _ in 0..events {
                    if socket.write_all(event(&"x".repeat(size), "null").as_bytes()).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
                let used = format!(r#"{{"prompt_tokens":7,"completion_tokens":{}}}"#, events * size / 4);
                let usage = format!(r#"data: {{"choices":[],"usage":{used}}}"#) + "\n\n";
                let end = event("", "\"stop\"") + &usage + "data: [DONE]\n\n";
                let _ = socket.write_all(end.as_bytes()).await;
            });
        }
    });
    url
}

fn streamed() -> String {
    body("chat", "x").replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"")
}

/// The answer, once the deployment's slot is granted to this replica.
async fn granted(world: &World, team: &Arc<Caller>) -> DirectAnswer {
    let until = Instant::now() + SOON;
    loop {
        match world.call(team, streamed()).await {
            Ok(answer) => return answer,
            Err(DirectError::Limited { .. }) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The reader stops in the middle of 8 MB. What the call holds comes back when its time is over, and it is booked by its usage.
#[sqlx::test(migrations = "../../migrations")]
async fn a_stream_whose_reader_stops_gives_its_slot_back(pool: PgPool) {
    let url = streaming(80, 100_000, Duration::ZERO).await;
    let mut spec = catalog(&[("only", &url)], TO_ONE);
    spec["deployments"]["only"]["total_timeout_ms"] = 3_000.into();
    spec["deployments"]["only"]["slots"] = 1.into();
    let world = World::new(&pool, spec, Providers::new(&HttpClients::new())).await;
    let team = world.team("a").await;
    let DirectAnswer::Stream { body: mut stalled, .. } = granted(&world, &team).await else {
        panic!("it is no stream");
    };
    let began = Instant::now();
    stalled.next().await.unwrap().unwrap();
    while !world.engine.calls.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(6), "the call outlives its time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whoever reads on at last finds an error and not an end.
    let rest: Vec<_> = stalled.collect().await;
    assert!(rest.last().is_some_and(Result::is_err), "{} pieces", rest.len());
    // The slot is free.
    drop(granted(&world, &team).await);
    world.end().await;
    let exact = "select count(*) from ledger where is_final and prompt_total = 7 and usage_source = 'provider'";
    assert_eq!(number(&pool, exact).await, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stream_that_is_cut_at_the_end_of_the_drain_says_so(pool: PgPool) {
    let url = streaming(100, 40, Duration::from_millis(100)).await;
    let world = World::new(&pool, catalog(&[("only", &url)], TO_ONE), Providers::new(&HttpClients::new())).await;
    let team = world.team("a").await;
    let DirectAnswer::Stream { body: pieces, .. } = world.call(&team, streamed()).await.ok().unwrap() else {
        panic!("it is no stream");
    };
    world.engine.calls.end(Duration::from_millis(300)).await;
    let pieces: Vec<_> = pieces.collect().await;
    let Some(Err(DirectError::Exhausted { message, .. })) = pieces.last() else { panic!("{pieces:?}") };
    assert!(message.contains("shut down"), "{message}");
    world.end().await;
    let booked = "select count(*) from ledger where is_final and usage_source = 'estimated' and output_text > 0";
    assert_eq!(number(&pool, booked).await, 1);
}

/// Deployments that do not know their model are the operator's fault: the next one is asked, and without one a job waits.
#[sqlx::test(migrations = "../../migrations")]
async fn a_model_that_no_deployment_knows_is_waited_for(pool: PgPool) {
    let is_known = Arc::new(AtomicBool::new(false));
    let known = Arc::clone(&is_known);
    let provider = Scripted::new(move |_, _| match known.load(Ordering::Relaxed) {
        true => (AT_ONCE, ScriptedOutcome::Answer),
        false => (AT_ONCE, ScriptedOutcome::Fail(ErrorClass::ModelNotFound)),
    });
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    let job = world.submit(&team, 1, &lines(20, "x")).await;
    let until = Instant::now() + SOON;
    loop {
        let waits = world.job(job).await.waits;
        if waits.is_some_and(|waits| waits.reason == domain::waits::WaitReason::ModelUnknown) {
            break;
        }
        assert!(Instant::now() < until, "{:?}", world.job(job).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(provider.calls() <= 40, "{} calls of 20 requests", provider.calls());
    is_known.store(true, Ordering::Relaxed);
    admission::route::by_hand::release(&world.engine.control, "only", "k").await.unwrap();
    sqlx::query("update flow set blocked_until = '-infinity'").execute(&pool).await.unwrap();
    sqlx::query("update share set blocked_until = '-infinity'").execute(&pool).await.unwrap();
    let job = world.ended(job, SOON).await.unwrap();
    assert_eq!((job.counts.succeeded, job.counts.failed), (20, 0));
    world.end().await;
}

/// A request that Tollway itself fails on ends as every other does.
#[sqlx::test(migrations = "../../migrations")]
async fn a_request_that_tollway_fails_on_is_put_aside(pool: PgPool) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let provider = Scripted::new(move |_, body| {
        let is_poison = body.contains("poison");
        counted.fetch_add(usize::from(is_poison), Ordering::Relaxed);
        (AT_ONCE, if is_poison { ScriptedOutcome::Panic } else { ScriptedOutcome::Answer })
    });
    let world = World::scripted(&pool, catalog(ONE, TO_ONE), &provider).await;
    let team = world.team("a").await;
    let job = world.submit(&team, 2, &(lines(3, "sound") + &line("bad", "chat", "poison"))).await;
    let job = world.ended(job, SOON).await.unwrap();
    assert_eq!((job.counts.succeeded, job.counts.failed), (3, 1));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    world.end().await;
}
