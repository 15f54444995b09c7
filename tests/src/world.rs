//! One gateway, its provider, its database, and a caller who may do everything.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::Client,
    database::Database,
    gateway::{Gateway, Setup},
    leash, oracle,
    postgres::Postgres,
    simulator::Simulator,
};

// In the order in which they end.
pub struct World {
    pub gateway: Gateway,
    pub simulator: Simulator,
    pub db: Database,
    /// Of the team `ops`, in all three lanes.
    pub admin: Client,
    pub setup: Setup,
    pub dir: TempDir,
}

impl World {
    /// `setup` is told where the simulator is.
    pub async fn start(story: &str, setup: impl FnOnce(&Simulator) -> Setup) -> Self {
        Self::start_on(Postgres::shared(), story, setup).await
    }

    pub async fn start_on(postgres: Arc<Postgres>, story: &str, setup: impl FnOnce(&Simulator) -> Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("tollway-e2e-").tempdir_in("/tmp").expect("/tmp takes a folder");
        leash::remove_at_end(dir.path());
        let simulator = Simulator::start(dir.path());
        let setup = setup(&simulator);
        let db = postgres.database(story).await;
        let gateway = Gateway::start(dir.path(), "gateway", &db, &setup).await;
        let create = ["--output", "json", "keys", "create", "--bootstrap", "--team", "ops", "--name", "first"];
        let made = gateway.run("", &create).await.expect(0).json();
        let admin = Client::new(&gateway.url, made["key"].as_str().expect("the key is shown once"));
        Self { gateway, simulator, db, admin, setup, dir }
    }

    /// Another gateway on the same database and lake.
    pub async fn replica(&self, name: &str, setup: &Setup) -> Gateway {
        Gateway::start(self.dir.path(), name, &self.db, setup).await
    }

    /// A key that may submit in `standard` and `bulk`; `more` says what is different. Makes the team where it is missing.
    pub async fn key(&self, team: &str, more: Value) -> Client {
        let made = self.admin.post("/api/v1/teams", json!({"name": team}).to_string()).await;
        assert!(matches!(made.status, 201 | 409), "{}", made.text());
        let mut key = json!({"team": team, "name": "of a test", "role": "submit"});
        if let (Value::Object(key), Value::Object(more)) = (&mut key, more) {
            key.extend(more);
        }
        let made = self.admin.post("/api/v1/keys", key.to_string()).await.expect(201).json();
        Client::new(&self.gateway.url, made["key"].as_str().expect("the key is shown once"))
    }

    /// Oracle O: see [`oracle::check`].
    pub async fn check(&self) {
        oracle::check(&self.db, &self.simulator, &self.gateway).await;
    }
}
