//! A gateway in memory: everything but the workers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use admission::catalog::ActiveCatalog;
use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use domain::{Catalog, JobId, Role, catalog::TeamRule};
use engine::{Engine, Settings, Start, admit::mint, call::Providers};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use sqlx::PgPool;
use store::{Pools, key::NewKey, team::TeamRow};
use tower::ServiceExt;

use crate::{App, Children, openapi::has_status, router, router::taken};

const PEPPER: [u8; 32] = [7; 32];

pub struct World {
    pub app: App,
    pub pool: PgPool,
    router: Router,
}

pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub json: Value,
    pub response: Response<()>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

impl World {
    /// With the three usual lanes, the team `filed` and the deployment `sim` in its configuration file.
    pub async fn new(pool: PgPool) -> Self {
        Self::with_settings(pool, |_| {}).await
    }

    /// The same in a process with other settings.
    pub async fn with_settings(pool: PgPool, change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(pool, Catalog { lanes: Catalog::default_lanes(), ..Catalog::default() }, change).await
    }

    /// The same, but the file says nothing of lanes.
    pub async fn with_default_lanes(pool: PgPool) -> Self {
        Self::of(pool, Catalog::default(), |_| {}).await
    }

    async fn of(pool: PgPool, mut catalog: Catalog, change: impl FnOnce(&mut Settings)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut tx = pool.begin().await.unwrap();
        catalog.teams.insert("filed".into(), TeamRule { slots: Some(3), ..TeamRule::default() });
        let sim = serde_json::json!({"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"});
        catalog.deployments.insert("sim".into(), serde_json::from_value(sim).unwrap());
        let route = serde_json::json!({"deployments": ["sim"]});
        catalog.routes.insert("BAAI/bge-m3".into(), serde_json::from_value(route).unwrap());
        engine::config::apply_catalog(&mut tx, &catalog, "test").await.unwrap();
        let active = store::config::load_active(&mut tx).await.unwrap().unwrap();
        tx.commit().await.unwrap();

        let mut settings =
            Settings { drain: Duration::from_secs(30), shutdown_delay: Duration::ZERO, ..Settings::default() };
        change(&mut settings);
        let (engine, ..) = Engine::new(Start {
            pools: Pools { api: pool.clone(), work: pool.clone(), intents: pool.clone() },
            worker_id: 1,
            roles: vec!["api".into()],
            settings,
            asked: Instant::now(),
            now: chrono::Utc::now(),
            catalog: ActiveCatalog::build(active.version, active.catalog).unwrap(),
            providers: Providers::new(&providers::HttpClients::new()),
            pepper: Arc::new(secrecy::SecretBox::new(Box::new(PEPPER))),
        });
        let children = Children::new("/bin/true".into(), Vec::new(), 2, Duration::from_secs(5));
        let app = App::new(Arc::new(engine), PrometheusBuilder::new().build_recorder().handle(), children);
        Self { router: router(app.clone()), app, pool }
    }

    pub async fn team(&self, name: &str) -> TeamRow {
        let mut conn = self.pool.acquire().await.unwrap();
        match store::team::get_by_name(&mut conn, name).await.unwrap() {
            Some(team) => team,
            None => store::team::create(&mut conn, name, 1).await.unwrap().unwrap(),
        }
    }

    /// A new key of a team, which is made when there is none.
    pub async fn key(&self, team: &str, role: Role) -> String {
        let team = self.team(team).await;
        let minted = mint(&PEPPER);
        let new = NewKey {
            key_id: &minted.key_id,
            team_id: team.team_id,
            name: "test",
            role: role.as_str(),
            lanes: &["standard".to_owned(), "bulk".to_owned()],
            mac: &minted.mac,
            slots: None,
            rpm: None,
            tpm: None,
            expires_at: None,
        };
        store::key::create(&mut self.pool.acquire().await.unwrap(), &new).await.unwrap();
        minted.key.expose().to_owned()
    }

    /// A job of a team that ended with nothing in it.
    pub async fn job(&self, team: &str) -> JobId {
        let id = JobId::new(chrono::Utc::now());
        let team = self.team(team).await;
        sqlx::query(
            "insert into job (job_id, team_id, key_id, lane, state, finished_at)
             values ($1, $2, 'k', 'bulk', 'completed', now())",
        )
        .bind(id.0)
        .bind(team.team_id)
        .execute(&self.pool)
        .await
        .unwrap();
        id
    }

    pub async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        // Whatever a test is about: the API's description knows of each answer.
        if let Some(route) = taken(&method, &path) {
            let status = head.status.as_u16();
            assert!(has_status(&method, route, status), "{method} {route} answers {status}, which is in no document");
        }
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let content_type = head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        Answer {
            status: head.status.as_u16(),
            content_type,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            response: Response::from_parts(head, ()),
        }
    }
}
