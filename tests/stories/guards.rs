//! The story that Tollway is there to make impossible: a reindex eats most of a team's month, and starves its chatbot while it does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use e2e::{
    Client, SOON, Setup, World, catalog, client::paused_by, oracle::DOLLAR, receiver::Receiver, requests, until,
};
use serde_json::{Value, json};

/// $8 for 500 tokens of output, and twice that at most; its chat costs next to nothing.
const PRICES: &str = "
[[prices]]
provider = 'sim'
model = 'sim-reindex'
input = '0.5'
output = '16000'
[[prices]]
provider = 'sim'
model = 'sim-chat'
input = '0.5'
output = '1.5'
";
const SLACK: &str = "
[alerts.slack]
kind = 'slack'
url = 'env:SLACK_URL'
on = ['burn_rate']
";

/// A gateway that tells Slack, with routes `reindex` and `chat`.
async fn world(story: &str, slack: &Receiver, more: &str) -> World {
    let more = more.to_owned();
    let variables = vec![("SLACK_URL", slack.url.clone())];
    let setup = |simulator: &_| {
        let reindex = catalog::deployment(simulator, "dear", "sim-reindex", "");
        let chat = catalog::deployment(simulator, "only", "sim-chat", "");
        let routes = catalog::route("reindex", &["dear"]) + &catalog::route("chat", &["only"]);
        Setup { slots: 32, variables, ..Setup::new(PRICES.to_owned() + SLACK + &reindex + &chat + &routes + &more) }
    };
    let world = World::start(story, setup).await;
    world.simulator.answers_long("dear", 20..=80).await;
    world
}

fn reindex(lines: usize) -> String {
    requests::long_chat("reindex", lines)
}

/// What the provider charged for the reindex, by its own journal.
async fn charged(world: &World) -> i128 {
    world.simulator.charged("dear", 500_000, 16_000_000_000).await
}

/// Calls the chat again and again, and tells what was not answered.
async fn chat_on(client: Client, done: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut answered, mut refused) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        let answer = client.budgeted_chat(&requests::chat_body("chat", answered)).await;
        if answer.status == 200 {
            answered += 1;
        } else {
            refused.push(answer.text());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (answered, refused)
}

#[tokio::test]
async fn a_reindex_is_paused_before_it_eats_the_month_and_the_chatbot_goes_on() {
    let slack = Receiver::start(&[]).await;
    // 10 % of $24,000 in any "hour" of fifty seconds.
    let budget = "[budgets.search-month]\nlimit_usd = '24000'\nwindow = 'month'\nscope = { team = 'search' }\n\
                  guard = { percent = 10, per = '50s' }\n[teams.search]\n";
    let world = world("burn", &slack, budget).await;
    let second = world.replica("second", &world.setup).await;
    let search = world.key("search", json!({})).await;
    let prod = world.key("search", json!({"lanes": ["prod"]})).await;
    let done = Arc::new(AtomicBool::new(false));
    let chatting = [&world.gateway.url, &second.url].map(|url| tokio::spawn(chat_on(prod.at(url), Arc::clone(&done))));

    // 60 % of the month.
    let job = search.submit("?tags=feature=reindex", reindex(1_800)).await;
    let paused = search.job_when(&job, "to be paused", |job| job["state"] == "paused" && job["in_flight"] == 0).await;
    assert_eq!(paused_by(&paused), ["guard"], "{paused}");
    assert_eq!(paused["waits"]["reason"], "guard", "{paused}");
    let why = paused["waiting_reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("budget search-month: its guard lets a job spend $2400.00 in 50s; "), "{why}");

    // No fifty seconds saw more than the rate, and not much less was spent before it was paused.
    let spent = charged(&world).await;
    let most = "select coalesce(max(spent), 0)::bigint / 1000000 from (
                    select sum(contracted_cost) over (order by reserved_at range between interval '50 s' preceding and current row)
                        as spent
                    from ledger where job_id is not null
                ) s";
    let rate = 2_400 * DOLLAR;
    assert_eq!(world.db.number(most).await, (spent / 1_000_000) as i64, "the ledger and the provider disagree");
    assert!(spent <= rate * 101 / 100 && spent >= rate * 99 / 100, "{spent} pico-dollars before it was paused");

    let lanes = world.admin.get("/api/v1/lanes").await.expect(200).json();
    let bulk = lanes["data"].as_array().and_then(|lanes| lanes.iter().find(|lane| lane["name"] == "bulk")).cloned();
    assert_eq!(bulk.expect("a lane")["waits"]["reason"], "guard", "{lanes}");
    until("Slack to be told", SOON, async || (!slack.got().is_empty()).then_some(())).await;

    // Nobody but who has the role lets it go on.
    let resumed = search.post(&format!("/api/v1/jobs/{job}/resume"), "").await.expect(409).json();
    assert!(resumed["detail"].as_str().is_some_and(|detail| detail.contains("can approve it")), "{resumed}");
    search.post(&format!("/api/v1/jobs/{job}/approve"), "").await.expect(403);
    let operator = world.key("search", json!({"role": "operator"})).await;
    let approved = world.gateway.run(&operator.key, &["jobs", "approve", &job]).await.expect(0);
    assert!(approved.stdout.contains("is running"), "{}", approved.stdout);
    operator.post(&format!("/api/v1/jobs/{job}/approve"), "").await.expect(200);
    let ended = search.ended(&job).await;
    assert_eq!((&ended["counts"]["succeeded"], paused_by(&ended).len()), (&json!(1_800), 0), "{ended}");
    assert!(charged(&world).await > 1_800 * 8 * DOLLAR, "$14,400, of which {spent} before somebody approved it");

    done.store(true, Ordering::Relaxed);
    for chat in chatting {
        let (answered, refused) = chat.await.expect("no panic");
        assert!(refused.is_empty() && answered > 20, "{answered} answered, and not: {refused:#?}");
    }
    assert_eq!(slack.titles(), ["A job of search burns budget search-month"]);
    let history = search.get(&format!("/api/v1/jobs/{job}/history")).await.expect(200).json();
    let actions: Vec<&str> =
        history["data"].as_array().expect("lines").iter().filter_map(|line| line["action"].as_str()).collect();
    assert_eq!(actions, ["submit", "pause", "approve"], "{history}");
    world.check().await;
}

/// Nobody approves it: it goes on by itself, as fast as its guard lets it, and no faster.
#[tokio::test]
async fn a_job_goes_on_when_its_spend_has_fallen_and_not_when_a_person_paused_it() {
    let slack = Receiver::start(&[]).await;
    let world = world("fallen", &slack, "").await;
    let budget = json!({"scope": {"team": "search"}, "limit_usd": "24000", "window": "month"});
    let guarded = |guard: Value| {
        let mut budget = budget.clone();
        budget["guard"] = guard;
        budget
    };
    let search = world.key("search", json!({})).await;
    for (guard, param) in [
        (json!({"percent": 0, "per": "1h"}), "guard.percent"),
        (json!({"percent": 101, "per": "1h"}), "guard.percent"),
        (json!({"percent": 1, "per": "40d"}), "guard.per"),
    ] {
        let refused = world.admin.put("/api/v1/budgets/search-month", &guarded(guard)).await;
        assert_eq!(refused.expect(422).json()["param"], param);
    }
    for guard in [json!({"percent": 1, "per": "soon"}), json!({"percent": 1, "per": "1h", "by": "lane"})] {
        world.admin.put("/api/v1/budgets/search-month", &guarded(guard)).await.expect(400);
    }
    // $240 in any six seconds, of all jobs of the feature.
    let guard = ["--guard", "1", "--guard-per", "6s", "--guard-by", "feature"];
    let set = ["budgets", "set", "search-month", "--usd", "24000", "--of", "team=search"];
    world.gateway.run(&world.admin.key, &[&set[..], &guard[..]].concat()).await.expect(0);
    let shown = world.admin.get("/api/v1/budgets/search-month").await.expect(200).json();
    assert_eq!(shown["guard"], json!({"percent": 1, "per": "6s", "by": "feature"}), "{shown}");

    let job = search.submit("?tags=feature=reindex", reindex(80)).await;
    let other = search.submit("?tags=feature=other", requests::chat(20)).await;
    search.job_when(&job, "to be paused by its guard", |job| paused_by(job) == ["guard"]).await;
    search.post(&format!("/api/v1/jobs/{job}/pause"), "").await.expect(200);
    assert_eq!(search.ended(&other).await["counts"]["succeeded"], 20, "what it does concerns no other feature");
    let job_is = async |what, by: &[&str]| search.job_when(&job, what, |job| paused_by(job) == by).await;
    // Paused by both, or by the person alone when it had gone on just then.
    let paused = job_is("to be let go on by its guard", &["paused"]).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    search.post(&format!("/api/v1/jobs/{job}/resume"), "").await.expect(200);
    let ended = search.ended(&job).await;
    assert_eq!(ended["counts"]["succeeded"], 80, "{ended}");
    let most = "select (max(spent) / 1000000)::bigint from (
                    select sum(contracted_cost) over (order by reserved_at range between interval '6 s' preceding and current row)
                        as spent
                    from ledger where feature = 'reindex'
                ) s";
    let burnt = i128::from(world.db.number(most).await) * 1_000_000;
    assert!(burnt <= 240 * DOLLAR, "{burnt} pico-dollars in six seconds");
    assert_eq!(slack.titles(), ["A job of search burns budget search-month"], "once in the budget's window");
    world.admin.post(&format!("/api/v1/jobs/{job}/approve"), "").await.expect(409);
    world.check().await;
}

/// What its calls under way hold slows a job down to its rate, and there are always some: it is paused for wanting more all the time.
#[tokio::test]
async fn a_job_of_slow_calls_is_paused_too() {
    let slack = Receiver::start(&[]).await;
    let world = world("slow", &slack, "").await;
    world.simulator.answers_long("dear", 1_400..=1_600).await;
    let search = world.key("search", json!({})).await;
    // $1,200 in any ten seconds. All slots together burn half as much again, and hold $512.
    let guard = json!({"percent": 5, "per": "10s"});
    let budget = json!({"scope": {"team": "search"}, "limit_usd": "24000", "window": "month", "guard": guard});
    world.admin.put("/api/v1/budgets/search-month", &budget).await.expect(200);
    let job = search.submit("?tags=feature=reindex", reindex(300)).await;
    let paused = search.job_when(&job, "to be paused by its guard", |job| paused_by(job) == ["guard"]).await;
    let why = paused["waiting_reason"].as_str().unwrap_or_default();
    assert!(why.contains("lets a job spend $1200.00 in 10s") && why.contains("calls under way may cost $"), "{why}");
    until("Slack to be told", SOON, async || (!slack.titles().is_empty()).then_some(())).await;
    // Whenever the calls that were under way have ended, its guard lets it go on.
    let ended = search.ended(&job).await;
    assert_eq!(ended["counts"]["succeeded"], 300, "{ended}");
    assert_eq!(slack.titles(), ["A job of search burns budget search-month"]);
    world.check().await;
}
