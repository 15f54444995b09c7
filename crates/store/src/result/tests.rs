use super::*;
use chrono::Utc;
use sqlx::PgPool;

const SIZE: PageSize = PageSize { rows: 100, bytes: 1 << 20 };
const ALL: Span = Span { from: 1, until: 1_000, failed_only: false };

/// Results for `lines`, every third failed, with bodies of `bytes` bytes.
async fn results(conn: &mut PgConnection, lines: &[i32], bytes: usize) -> i64 {
    let job_id = domain::ids::time_id(Utc::now());
    for line in lines {
        sqlx::query(
            "insert into result (job_id, line, custom_id, ok, attempts, endpoint, body) values ($1, $2, 'c', $3, 1, 1, $4)",
        )
        .bind(job_id)
        .bind(line)
        .bind(line % 3 != 0)
        .bind("x".repeat(bytes))
        .execute(&mut *conn)
        .await
        .unwrap();
    }
    job_id
}

fn numbers(page: &Page) -> Vec<i32> {
    page.rows.iter().map(|row| row.line).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn pages_go_on_where_the_last_one_ended(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let job_id = results(&mut conn, &[1, 2, 4, 5, 6, 9], 10).await;
    let two = PageSize { rows: 2, ..SIZE };
    let mut span = ALL;
    let mut seen = Vec::new();
    while span.from < span.until {
        let page = page(&mut conn, job_id, span, two).await.unwrap();
        assert!(page.rows.len() <= 2);
        seen.extend(numbers(&page));
        span.from = page.next;
    }
    assert_eq!(seen, [1, 2, 4, 5, 6, 9]);
    assert_eq!(lines(&mut conn, job_id, 2, 3).await.unwrap(), [2, 4, 5]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_page_is_bounded_in_bytes_but_never_empty(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let job_id = results(&mut conn, &[1, 2, 3, 4], 3_000).await;
    let first = page(&mut conn, job_id, ALL, PageSize { bytes: 3_001, ..SIZE }).await.unwrap();
    assert_eq!((numbers(&first), first.next), (vec![1, 2], 3));
    let tiny = page(&mut conn, job_id, ALL, PageSize { bytes: 1, ..SIZE }).await.unwrap();
    assert_eq!((numbers(&tiny), tiny.next), (vec![1], 2));
}

#[sqlx::test(migrations = "../../migrations")]
async fn failed_ones_can_be_read_alone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let job_id = results(&mut conn, &[1, 2, 3, 4, 5, 6], 10).await;
    let span = Span { failed_only: true, from: 2, until: 6 };
    let failed = page(&mut conn, job_id, span, SIZE).await.unwrap();
    assert_eq!((numbers(&failed), failed.next), (vec![3], 6));
}

#[sqlx::test(migrations = "../../migrations")]
async fn requests_without_a_result_are_found(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let job_id = results(&mut conn, &[1, 4], 10).await;
    for (pos, line) in [(0, 1), (1, 3), (2, 4), (3, 8)] {
        sqlx::query(
            "insert into item (flow_id, pos, line, est_in, custom_id, body) values ($1, $2, $3, 1, 'c' || $3::text, '{}')",
        )
        .bind(job_id)
        .bind(pos)
        .bind(line)
        .execute(&mut *conn)
        .await
        .unwrap();
    }
    let found = unfinished(&mut conn, job_id, job_id, 0, 10).await.unwrap();
    let expected = [3, 8].map(|line| Unfinished { line, custom_id: format!("c{line}") });
    assert_eq!(found, expected);
    assert_eq!(unfinished(&mut conn, job_id, job_id, 2, 1).await.unwrap(), []);
    assert_eq!(flow_items(&mut conn, job_id).await.unwrap(), 4);
    assert_eq!(line_at(&mut conn, job_id, 3).await.unwrap(), Some(8));
    assert_eq!(flow_items(&mut conn, job_id + 1).await.unwrap(), 0);
}
