//! Who did what to which job: a line in the transaction of each change.

use domain::{Action, AuditLine};
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

/// In the transaction that makes the change.
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

/// The job's lines, the oldest first, at most `limit` behind the one numbered `behind`; each with its number.
pub async fn of_job(conn: &mut PgConnection, job_id: i64, behind: i64, limit: i64) -> Result<Vec<(i64, AuditLine)>> {
    struct Row {
        audit_id: i64,
        at: chrono::DateTime<chrono::Utc>,
        action: String,
        key_id: Option<String>,
        team: Option<String>,
        details: serde_json::Value,
    }
    let rows = query_as!(
        Row,
        r#"select a.audit_id, a.at, a.action, a.key_id, t.name as "team?", a.details
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
    let line = |row: Row| AuditLine {
        at: row.at,
        action: row.action,
        key_id: row.key_id,
        team: row.team,
        details: row.details,
    };
    Ok(rows.into_iter().map(|row| (row.audit_id, line(row))).collect())
}
