use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use simulator::{Config, Outcome};

use crate::support::{ASK, Line, start, with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_many_clients_is_there_once() {
    let sim = start(with(json!({"error_rate": 0.25, "latency": {"kind": "fixed", "ms": 1}}))).await;
    let sim = &sim;
    let one_client = async |client: usize| {
        let mut seen = Vec::new();
        for call in 0..250 {
            let id = format!("{client:08x}-0000-7000-8000-{call:012x}");
            let status = sim.status(sim.chat().header("x-client-request-id", &id)).await;
            seen.push((id, status));
        }
        seen
    };
    let seen: Vec<(String, u16)> = join_all((0..16).map(one_client)).await.concat();

    let lines = sim.journal().await;
    assert_eq!(lines.len(), 4_000);
    assert!(lines.is_sorted_by_key(|line| line.seq));
    let written: HashSet<(String, u16)> = lines
        .iter()
        .map(|l| (l.client_request_id.as_deref().expect("an id").to_owned(), l.status.expect("a status")))
        .collect();
    assert_eq!(written, seen.into_iter().collect());

    let stats = sim.stats().await;
    assert_eq!((stats.all.calls, stats.all.in_flight, stats.duplicates), (4_000, 0, 0));
    assert!((2..=16).contains(&stats.all.max_in_flight), "{}", stats.all.max_in_flight);
    let count = |outcome| lines.iter().filter(|l| l.outcome == outcome).count() as u64;
    assert_eq!(stats.all.by_outcome[&Outcome::Ok], count(Outcome::Ok));
    assert_eq!(stats.all.by_status["500"], count(Outcome::Error));
    assert_eq!(stats.all.completion_tokens, 16 * count(Outcome::Ok));
    assert_eq!(stats.all.prompt_tokens, lines.iter().map(|l| l.prompt_tokens).sum::<u64>());
}

#[tokio::test]
async fn reading_can_go_on_where_it_stopped_and_repeats_are_counted() {
    let sim = start(Config::default()).await;
    for id in ["a", "b", "a"] {
        sim.status(sim.chat().header("x-client-request-id", id)).await;
    }
    let seqs: Vec<u64> = sim.lines("/sim/journal?from=2").await.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [2, 3]);
    assert!(sim.lines("/sim/journal?from=4").await.is_empty());
    assert_eq!(sim.stats().await.duplicates, 1);
    assert_eq!(sim.get("/sim/journal?from=x").await.status(), 400);
}

#[tokio::test]
async fn a_call_under_way_is_open() {
    let sim = start(with(json!({"latency": {"kind": "fixed", "ms": 3_000}}))).await;
    let (answer, lines) = tokio::join!(sim.chat().send(), async {
        while sim.stats().await.all.in_flight == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        (sim.only_line().await, sim.stats().await)
    });
    let (line, stats) = lines;
    assert_eq!((line.outcome, line.ended_us, line.status, &*line.model), (Outcome::Open, None, None, "m"));
    assert_eq!((stats.all.in_flight, stats.all.max_in_flight), (1, 1));
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(sim.stats().await.all.in_flight, 0);
}

#[tokio::test]
async fn the_file_has_the_same_and_stays_after_a_shutdown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    let config = Config {
        journal_path: Some(path.clone()),
        deployments: [
            ("hangs".into(), json!({"hang_rate": 1}).as_object().expect("object").clone()),
            ("slow".into(), json!({"latency": {"kind": "fixed", "ms": 9_000}}).as_object().expect("object").clone()),
        ]
        .into(),
        ..Config::default()
    };
    let sim = start(config.clone()).await;
    assert_eq!(sim.status(sim.chat()).await, 200);
    let ended = sim.only_line().await;
    let left = ["hangs", "slow"].map(|name| {
        let call = sim.post(&format!("/d/{name}/v1/chat/completions"), ASK);
        tokio::spawn(call.send())
    });
    while sim.stats().await.all.in_flight < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sim.stop().await;
    for call in left {
        call.await.expect("no panic").expect_err("no answer");
    }

    let text = std::fs::read_to_string(&path).expect("the file");
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert!(lines.contains(&ended));
    let last = |seq| lines.iter().rfind(|line| line.seq == seq).expect("a line").outcome;
    let mut outcomes = [last(2), last(3)];
    outcomes.sort();
    assert_eq!(outcomes, [Outcome::Cut, Outcome::Hung]);

    let again = start(config).await;
    assert_eq!(again.status(again.chat()).await, 200);
    assert_eq!(again.only_line().await.seq, 4);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_ends_the_start() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let config = Config { journal_path: Some("/nowhere/at/all.jsonl".into()), ..Config::default() };
    let error = simulator::serve(listener, config, std::future::pending()).await.expect_err("refused");
    assert!(error.to_string().contains("/nowhere/at/all.jsonl"), "{error}");
}
