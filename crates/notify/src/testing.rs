//! A notifier on the database of one test, which sends nothing by itself.

use std::sync::Arc;

use admission::clock::Clock;
use chrono::Utc;
use secrecy::SecretBox;
use store::{PgPool, Pools};

use crate::{Notifier, alerts::Notices};

/// Without receivers, and with a team `t`, whose id is 1.
pub async fn notifier(pool: &PgPool) -> Arc<Notifier> {
    sqlx::query("insert into team (name, weight) values ('t', 3)").execute(pool).await.unwrap();
    Arc::new(Notifier {
        pools: Pools { api: pool.clone(), work: pool.clone(), intents: pool.clone() },
        clock: Clock::new(Utc::now()),
        receivers: Vec::new(),
        private_hosts: false,
        pepper: Arc::new(SecretBox::new(Box::new([0; 32]))),
        notices: Notices::default(),
    })
}
