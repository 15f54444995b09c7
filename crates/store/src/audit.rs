//! Who did what to which job, or to what operators declare: a line in the transaction of each change.

use chrono::{DateTime, Utc};
use domain::{Action, AuditLine, JobId, Object};
use sqlx::{PgConnection, query, query_as};

use crate::Result;

#[derive(Debug)]
pub struct Entry<'a> {
    pub job_id: i64,
    /// `None`: Tollway itself.
    pub key_id: Option<&'a str>,
    pub action: Action,
    /// Nothing of a prompt.
    pub details: serde_json::Value,
}

/// Of a job. In the transaction that makes the change.
pub async fn record(conn: &mut PgConnection, entry: Entry<'_>) -> Result<()> {
    query!(
        "insert into audit (team_id, job_id, key_id, action, details)
         select team_id, job_id, $2, $3, $4 from job where job_id = $1",
        entry.job_id,
        entry.key_id,
        entry.action.as_str(),
        entry.details,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Of anything but a job.
#[derive(Debug)]
pub struct Change<'a> {
    pub object: Object,
    /// `None`: Tollway itself.
    pub key_id: Option<&'a str>,
    pub action: Action,
    /// What it was and what it is, in short; no secret.
    pub details: serde_json::Value,
}

/// In the transaction that makes the change.
pub async fn record_change(conn: &mut PgConnection, change: Change<'_>) -> Result<()> {
    query!(
        "insert into audit (object, key_id, action, details) values ($1, $2, $3, $4)",
        change.object.to_string(),
        change.key_id,
        change.action.as_str(),
        change.details,
    )
    .execute(conn)
    .await?;
    Ok(())
}

struct Row {
    audit_id: i64,
    at: DateTime<Utc>,
    action: String,
    job_id: Option<i64>,
    object: Option<String>,
    key_id: Option<String>,
    team: Option<String>,
    details: serde_json::Value,
}

impl From<Row> for (i64, AuditLine) {
    fn from(row: Row) -> Self {
        let object = row.object.or_else(|| row.job_id.map(|id| JobId(id).to_string())).unwrap_or_default();
        let Row { at, action, key_id, team, details, .. } = row;
        (row.audit_id, AuditLine { at, action, object, key_id, team, details })
    }
}

/// The job's lines, the oldest first, at most `limit` behind the one numbered `behind`; each with its number.
pub async fn of_job(conn: &mut PgConnection, job_id: i64, behind: i64, limit: i64) -> Result<Vec<(i64, AuditLine)>> {
    let rows = query_as!(
        Row,
        r#"select a.audit_id, a.at, a.action, a.job_id, a.object, a.key_id, t.name as "team?", a.details
           from audit a
           left join api_key k on k.key_id = a.key_id
           left join team t on t.team_id = k.team_id
           where a.job_id = $1 and a.audit_id > $2
           order by a.audit_id limit $3"#,
        job_id,
        behind,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Which lines a list asks for.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// `None`: of everything, jobs too.
    pub object: Option<Object>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    /// Older than the line of this time and number.
    pub before: Option<(DateTime<Utc>, i64)>,
    pub limit: i64,
}

/// The newest first; each with its number.
pub async fn list(conn: &mut PgConnection, asked: &ListQuery) -> Result<Vec<(i64, AuditLine)>> {
    let (before, number) = asked.before.unzip();
    let rows = match &asked.object {
        Some(object) => {
            let job_id = if let Object::Job(id) = object { Some(id.0) } else { None };
            query_as!(
                Row,
                r#"select a.audit_id, a.at, a.action, a.job_id, a.object, a.key_id, t.name as "team?", a.details
                   from audit a
                   left join api_key k on k.key_id = a.key_id
                   left join team t on t.team_id = k.team_id
                   where (a.object = $1 or a.job_id = $2)
                     and a.at >= coalesce($3, '-infinity'::timestamptz) and a.at < coalesce($4, 'infinity'::timestamptz)
                     and (a.at, a.audit_id) < (coalesce($5, 'infinity'::timestamptz), coalesce($6, 0::bigint))
                   order by a.at desc, a.audit_id desc limit $7"#,
                object.to_string(),
                job_id,
                asked.from,
                asked.to,
                before,
                number,
                asked.limit,
            )
            .fetch_all(conn)
            .await?
        }
        None => {
            query_as!(
                Row,
                r#"select a.audit_id, a.at, a.action, a.job_id, a.object, a.key_id, t.name as "team?", a.details
                   from audit a
                   left join api_key k on k.key_id = a.key_id
                   left join team t on t.team_id = k.team_id
                   where a.at >= coalesce($1, '-infinity'::timestamptz) and a.at < coalesce($2, 'infinity'::timestamptz)
                     and (a.at, a.audit_id) < (coalesce($3, 'infinity'::timestamptz), coalesce($4, 0::bigint))
                   order by a.at desc, a.audit_id desc limit $5"#,
                asked.from,
                asked.to,
                before,
                number,
                asked.limit,
            )
            .fetch_all(conn)
            .await?
        }
    };
    Ok(rows.into_iter().map(Into::into).collect())
}
