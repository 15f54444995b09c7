//! A database of one story, and questions to it.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, FromRow, PgConnection, PgPool,
    postgres::{PgPoolOptions, PgRow},
};

use crate::postgres::{Postgres, url_at};

pub struct Database {
    name: String,
    pool: PgPool,
    /// It lives as long as the database is asked.
    pub postgres: Arc<Postgres>,
}

impl Database {
    pub(crate) async fn create(postgres: Arc<Postgres>, name: &str) -> Self {
        let mut admin = PgConnection::connect(&postgres.url("postgres")).await.expect("the cluster answers");
        let made = sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await;
        made.unwrap_or_else(|error| panic!("create database {name}: {error}"));
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy(&postgres.url(name))
            .expect("the URL is ours");
        Self { name: name.to_owned(), pool, postgres }
    }

    /// By the cluster's own socket, or by the one in another folder.
    pub fn url(&self, dir: Option<&Path>) -> String {
        url_at(dir.unwrap_or(self.postgres.dir()), &self.name)
    }

    /// A query's only number. `sql` gives one row of one bigint.
    pub async fn number(&self, sql: &'static str) -> i64 {
        self.try_number(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same, of a database that may be away.
    pub async fn try_number(&self, sql: &'static str) -> sqlx::Result<i64> {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await
    }

    /// A query's only text.
    pub async fn text(&self, sql: &'static str) -> String {
        let answer = sqlx::query_scalar(sql).fetch_one(&self.pool).await;
        answer.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn rows<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let answer = sqlx::query_as(sql).fetch_all(&self.pool).await;
        answer.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn execute(&self, sql: &'static str) {
        let done = sqlx::raw_sql(sql).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Keeps everybody else from writing to a table until it is rolled back.
    pub async fn lock(&self, table: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut lock = self.pool.begin().await.expect("a connection");
        let statement = AssertSqlSafe(format!("lock table {table} in exclusive mode"));
        sqlx::query(statement).execute(&mut *lock).await.expect("the lock");
        lock
    }

    /// Everything that a submission leaves: jobs, flows, items, idempotency keys.
    pub async fn left_by_submissions(&self) -> i64 {
        self.number(
            "select (select count(*) from job) + (select count(*) from flow) + (select count(*) from item)
                  + (select count(*) from idempotency)",
        )
        .await
    }
}
