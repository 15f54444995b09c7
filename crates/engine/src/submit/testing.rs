//! What tests of submission share: a catalog, a gateway, uploads.

use std::{sync::Arc, time::Duration};

use admission::{budgets::Budgets, catalog::ActiveCatalog, clock::Clock, limits::Limiter};
use chrono::Utc;
use domain::{
    Catalog, Deployment, Lane, Route,
    catalog::{OwnPrice, ProviderKind, Quotas},
    job::JobParams,
};
use store::PgPool;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream};

use super::{Accepted, Format, Intake, Submission, SubmitError, Submitter, submit_to};
use crate::Settings;

/// Routes `e5` and `chat` at a price of their own, `dear` without any, `mixed` over two models, and `r00` to `r32`.
pub fn catalog() -> ActiveCatalog {
    let deployment = |model: &str| Deployment {
        kind: ProviderKind::Openai,
        provider: None,
        base_url: "http://127.0.0.1:9/v1".into(),
        model: model.into(),
        credential: None,
        slots: None,
        rpm: None,
        tpm: None,
        max_output_tokens: None,
        connect_timeout_ms: 1,
        read_timeout_ms: 1,
        total_timeout_ms: 1,
        max_event_mb: 16,
        max_answer_mb: 64,
        billing_account: None,
        provider_project: None,
        region: None,
    };
    let price = |model: &str, free: bool| OwnPrice {
        provider: "openai".into(),
        model: model.into(),
        free,
        input: (!free).then(|| "1".into()),
        output: (!free).then(|| "2".into()),
        cache_read: None,
        cache_write: None,
        from: None,
    };
    let route = |deployments: &[&str]| Route {
        deployments: deployments.iter().map(|name| (*name).to_owned()).collect(),
        allow_unpriced: false,
    };
    let models = ["free-model", "priced-model", "model-without-price"];
    let numbered = (0..=32).map(|n| (format!("r{n:02}"), route(&["free-model"])));
    let named = [
        ("e5", route(&["free-model"])),
        ("chat", route(&["priced-model"])),
        ("dear", route(&["model-without-price"])),
        ("mixed", route(&["free-model", "priced-model"])),
    ];
    let catalog = Catalog {
        deployments: models.iter().map(|model| ((*model).to_owned(), deployment(model))).collect(),
        routes: named.into_iter().map(|(name, route)| (name.to_owned(), route)).chain(numbered).collect(),
        prices: vec![price("free-model", true), price("priced-model", false)],
        ..Catalog::default()
    };
    ActiveCatalog::build(1, catalog).unwrap()
}

pub const WORKER: i64 = 77;
pub const PEPPER: [u8; 32] = [0; 32];

pub struct Gateway {
    pub pool: PgPool,
    pub catalog: Arc<ActiveCatalog>,
    pub clock: Clock,
    pub settings: Settings,
    pub budgets: Budgets,
    pub limits: Limiter,
    pub lanes: Vec<Lane>,
}

impl Gateway {
    pub async fn new(pool: PgPool) -> Self {
        sqlx::query("insert into team (name, weight) values ('t', 3)").execute(&pool).await.unwrap();
        Self {
            pool,
            catalog: Arc::new(catalog()),
            clock: Clock::new(Utc::now()),
            settings: Settings::default(),
            budgets: Budgets::default(),
            limits: Limiter::default(),
            lanes: vec![Lane::bulk()],
        }
    }

    /// For teams without one of their own.
    pub fn set_quota(&mut self, quotas: Quotas) {
        self.catalog = Arc::new(ActiveCatalog { quotas, ..catalog() });
    }

    pub fn intake(&self) -> Intake<'_> {
        let Self { pool, catalog, clock, settings, budgets, limits, .. } = self;
        Intake {
            pool,
            catalog: Arc::clone(catalog),
            clock,
            budgets,
            limits,
            worker_id: WORKER,
            settings,
            pepper: &PEPPER,
        }
    }

    pub async fn submit<R: AsyncRead + Unpin + Send>(
        &self,
        key: Option<&str>,
        body: R,
    ) -> Result<Accepted, SubmitError> {
        let who = Submitter { team_id: 1, key_id: "k", lanes: &self.lanes };
        submit_to(self.intake(), who, submission(key, body)).await
    }

    pub async fn count(&self, table: &'static str) -> i64 {
        let statement = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.unwrap()
    }

    /// The next refusal counts what there is, however long the last count took.
    pub async fn count_soon(&self) {
        sqlx::query("update team_usage set count_took = '0'").execute(&self.pool).await.unwrap();
    }

    /// Waits until nothing is left of what was given up.
    pub async fn emptied(&self) {
        for _ in 0..200 {
            let left = self.count("job").await + self.count("item").await + self.count("idempotency").await;
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} jobs and {} items are left", self.count("job").await, self.count("item").await);
    }
}

pub fn submission<R>(key: Option<&str>, body: R) -> Submission<R> {
    Submission { params: JobParams::default(), idempotency_key: key.map(str::to_owned), format: Format::Jsonl, body }
}

pub fn lines(range: std::ops::Range<usize>) -> Vec<u8> {
    let line = |n| {
        let url = "/v1/embeddings";
        format!(
            "{{\"custom_id\":\"doc-{n}\",\"method\":\"POST\",\"url\":\"{url}\",\"body\":{{\"model\":\"e5\",\"input\":\"text {n}\"}}}}\n"
        )
    };
    range.map(line).collect::<String>().into_bytes()
}

/// An upload that is still coming in: the client's end of it.
pub async fn stalled(
    gateway: &Arc<Gateway>,
    key: &'static str,
    first: Vec<u8>,
) -> (DuplexStream, tokio::task::JoinHandle<Result<Accepted, SubmitError>>) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let taking = tokio::spawn({
        let gateway = Arc::clone(gateway);
        async move { gateway.submit(Some(key), server).await }
    });
    client.write_all(&first).await.unwrap();
    while gateway.count("job").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (client, taking)
}
