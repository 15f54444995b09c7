//! A running engine on the database of one test, and a provider inside the process.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use admission::catalog::ActiveCatalog;
use async_trait::async_trait;
use bytes::Bytes;
use domain::{AttemptId, Endpoint, ErrorClass, Job, JobId, Lane, Role, Usage, catalog::Caps, job::JobParams};
use providers::{Answer, AnswerStream, Call, CallError, Provider, Target};
use serde_json::{Value, json};
use store::{PgPool, Pools, job::Scope};

use crate::{
    Engine, Running, Settings, Start,
    admit::Caller,
    call::Providers,
    config,
    submit::{Format, Submission, Submitter, submit},
    sync_calls::{self, Direct, DirectAnswer, DirectError},
};

/// What becomes of a call.
#[derive(Debug, Clone)]
pub enum ScriptedOutcome {
    Answer,
    Fail(ErrorClass),
    /// The same, with what it used.
    FailUsing(ErrorClass, Usage),
    Refuse {
        class: ErrorClass,
        retry_after: Duration,
    },
    Panic,
    /// It does not end by itself.
    Hang,
}

/// A call as the provider saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub attempt_id: AttemptId,
    pub outcome: ScriptedOutcome,
}

type Plan = dyn Fn(&str, &str) -> (Duration, ScriptedOutcome) + Send + Sync;

/// A provider that does as it is told, by deployment and body, after some time.
pub struct Scripted {
    plan: Box<Plan>,
    pub seen: Mutex<Vec<Seen>>,
}

pub fn used() -> Usage {
    Usage { input_uncached: Some(20), output_text: Some(5), ..Usage::default() }
}

impl Scripted {
    pub fn new(plan: impl Fn(&str, &str) -> (Duration, ScriptedOutcome) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { plan: Box::new(plan), seen: Mutex::default() })
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

pub fn error(class: ErrorClass) -> CallError {
    let http_status = match class {
        ErrorClass::Throttled => Some(429),
        ErrorClass::Overloaded => Some(503),
        ErrorClass::ServerError => Some(500),
        ErrorClass::Credential => Some(401),
        ErrorClass::Forbidden => Some(403),
        ErrorClass::ModelNotFound => Some(404),
        ErrorClass::InvalidRequest => Some(400),
        ErrorClass::Garbage | ErrorClass::Cut => Some(200),
        _ => None,
    };
    CallError {
        class,
        http_status,
        retry_after: None,
        message: format!("as planned: {}", class.as_str()),
        body: None,
        usage: None,
        provider_request_id: None,
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn call(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        let (after, outcome) = (self.plan)(&target.name, call.body);
        self.seen.lock().unwrap().push(Seen { attempt_id: call.attempt_id, outcome: outcome.clone() });
        tokio::time::sleep(after).await;
        match outcome {
            ScriptedOutcome::Answer => Ok(Answer {
                status: 200,
                body: Bytes::from_static(b"{}"),
                vectors: None,
                usage: Some(used()),
                output_bytes: 20,
                choices: 1,
                model: None,
                provider_request_id: None,
                service_tier: None,
                finish_reason: None,
                ttft: Duration::ZERO,
                latency: Duration::ZERO,
            }),
            ScriptedOutcome::Fail(class) => Err(error(class)),
            ScriptedOutcome::FailUsing(class, usage) => Err(CallError { usage: Some(usage), ..error(class) }),
            ScriptedOutcome::Refuse { class, retry_after } => {
                Err(CallError { retry_after: Some(retry_after), ..error(class) })
            }
            ScriptedOutcome::Panic => panic!("as planned"),
            ScriptedOutcome::Hang => std::future::pending().await,
        }
    }

    async fn stream(&self, _: &Target, _: &Call<'_>) -> Result<AnswerStream, CallError> {
        Err(error(ErrorClass::InvalidRequest))
    }
}

pub struct World {
    pub engine: Arc<Engine>,
    pub pool: PgPool,
    running: Running,
}

/// Deployments by name and address, routes over them, all at a price.
pub fn catalog(deployments: &[(&str, &str)], routes: &[(&str, &[&str])]) -> Value {
    let deployment = |(name, url): &(&str, &str)| {
        let spec = json!({"kind": "openai", "base_url": url, "model": "m", "read_timeout_ms": 5_000, "total_timeout_ms": 10_000});
        ((*name).to_owned(), spec)
    };
    let route = |(name, on): &(&str, &[&str])| ((*name).to_owned(), json!({"deployments": on}));
    json!({
        "deployments": deployments.iter().map(deployment).collect::<serde_json::Map<_, _>>(),
        "routes": routes.iter().map(route).collect::<serde_json::Map<_, _>>(),
        "prices": [{"provider": "openai", "model": "m", "input": "1", "output": "2"}],
        "lanes": {"bulk": {"class": "weighted", "backoff_ms": 1, "backoff_max_ms": 5}, "prod": {"class": "strict"}},
    })
}

pub const NOWHERE: &str = "http://127.0.0.1:9/v1";

impl World {
    pub async fn new(pool: &PgPool, catalog: Value, providers: Providers) -> Self {
        let catalog: domain::Catalog = serde_json::from_value(catalog).unwrap();
        let settings = Settings { slots: 64, ..Settings::default() };
        let mut tx = pool.begin().await.unwrap();
        config::apply_catalog(&mut tx, &catalog, "test").await.unwrap();
        store::retention::make_partitions(&mut tx).await.unwrap();
        let active = store::config::load_active(&mut tx).await.unwrap().unwrap();
        let (worker_id, asked, roles) = (77, Instant::now(), vec!["worker".to_owned()]);
        let now = store::worker::register(&mut tx, worker_id, "test", &roles, settings.slots, settings.lease).await;
        tx.commit().await.unwrap();
        let (engine, intents, settlements) = Engine::new(Start {
            pools: Pools { api: pool.clone(), work: pool.clone(), intents: pool.clone() },
            worker_id,
            roles,
            settings,
            asked,
            now: now.unwrap(),
            catalog: ActiveCatalog::build(active.version, active.catalog).unwrap(),
            providers,
            pepper: Arc::new(secrecy::SecretBox::new(Box::new([0; 32]))),
        });
        let engine = Arc::new(engine);
        admission::limits::reload(&engine.control).await.unwrap();
        admission::budgets::follow(&engine.control).await.unwrap();
        let running = Running::start(&engine, "worker".parse().unwrap(), intents, settlements);
        Self { engine, pool: pool.clone(), running }
    }

    pub async fn scripted(pool: &PgPool, catalog: Value, provider: &Arc<Scripted>) -> Self {
        Self::new(pool, catalog, Providers::of(Arc::clone(provider) as Arc<dyn Provider>)).await
    }

    pub async fn team(&self, name: &str) -> Arc<Caller> {
        let id = "insert into team (name, weight) values ($1, 1)
                  on conflict (name) do update set weight = 1 returning team_id";
        let team_id: i64 = sqlx::query_scalar(id).bind(name).fetch_one(&self.pool).await.unwrap();
        Arc::new(Caller {
            key_id: format!("key-{name}").into(),
            team_id,
            team: name.into(),
            role: Role::Submit,
            lanes: Arc::from([Lane::prod(), Lane::bulk()]),
            caps: Caps::default(),
        })
    }

    pub async fn submit(&self, caller: &Caller, max_attempts: i16, lines: &str) -> JobId {
        let params = JobParams { max_attempts: Some(max_attempts), lane: Some(Lane::bulk()), ..JobParams::default() };
        let submission = Submission { params, idempotency_key: None, format: Format::Jsonl, body: lines.as_bytes() };
        let who = Submitter { team_id: caller.team_id, key_id: &caller.key_id, lanes: &caller.lanes };
        submit(&self.engine, who, submission).await.unwrap().job_id
    }

    pub async fn call(&self, caller: &Arc<Caller>, body: String) -> Result<DirectAnswer, DirectError> {
        let asked = Direct {
            request_id: sync_calls::request_id(&self.engine),
            endpoint: Endpoint::ChatCompletions,
            body: body.into(),
            tags: domain::Tags::default(),
            lane: None,
        };
        sync_calls::call(&self.engine, caller, asked).await
    }

    pub async fn job(&self, id: JobId) -> Job {
        store::job::get(&mut self.pool.acquire().await.unwrap(), Scope::All, id).await.unwrap().unwrap()
    }

    /// The job once it has ended.
    pub async fn ended(&self, id: JobId, within: Duration) -> Option<Job> {
        let until = Instant::now() + within;
        loop {
            let job = self.job(id).await;
            if job.state.is_terminal() {
                return Some(job);
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the process in order: what was called is booked.
    pub async fn end(self) -> Arc<Engine> {
        self.running.end(&self.engine, Duration::from_secs(10)).await;
        self.engine
    }

    pub async fn number(&self, query: &'static str) -> i64 {
        number(&self.pool, query).await
    }
}

pub async fn number(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

pub fn body(route: &str, text: &str) -> String {
    json!({"model": route, "max_tokens": 10, "messages": [{"role": "user", "content": text}]}).to_string()
}

pub fn line(id: &str, route: &str, text: &str) -> String {
    let body: Value = serde_json::from_str(&body(route, text)).unwrap();
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string() + "\n"
}
