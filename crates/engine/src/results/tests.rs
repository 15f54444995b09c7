//! Reading results from a database of its own.

use chrono::Utc;
use domain::Endpoint;
use futures::TryStreamExt;
use serde_json::Value;

use super::*;

/// A job of `lines` requests in two flows, every third in the second.
async fn job(pool: &PgPool, lines: i32) -> JobId {
    let job = JobId::new(Utc::now());
    let flows = [job.0, job.0 + 1];
    sqlx::query("insert into team (name) values ('t')").execute(pool).await.unwrap();
    sqlx::query(
        "insert into job (job_id, team_id, key_id, lane, state, accepted, flow_ids) values ($1, 1, 'k', 'bulk', 'running', $2, $3)",
    )
    .bind(job.0)
    .bind(lines)
    .bind(&flows[..])
    .execute(pool)
    .await
    .unwrap();
    let mut next = [0, 0];
    for line in 1..=lines {
        let flow = usize::from(line % 3 == 0);
        sqlx::query("insert into item (flow_id, pos, line, est_in, custom_id, body) values ($1, $2, $3, 1, 'c' || $3::text, '{}')")
            .bind(flows[flow])
            .bind(next[flow])
            .bind(line)
            .execute(pool)
            .await
            .unwrap();
        next[flow] += 1;
    }
    job
}

async fn finish_line(pool: &PgPool, job: JobId, line: i32, ok: bool) {
    sqlx::query(
        "insert into result (job_id, line, custom_id, ok, attempts, status_code, endpoint, body, error_class, error_message)
         values ($1, $2, 'c' || $2::text, $3, 1, case when $3 then 200 else 400 end, 1, '{\"n\":1}', case when not $3 then 'e' end, 'm')",
    )
    .bind(job.0)
    .bind(line)
    .bind(ok)
    .execute(pool)
    .await
    .unwrap();
}

async fn end(pool: &PgPool, job: JobId, state: &str, cancelled: i64, expired: i64) {
    sqlx::query("update job set state = $2, finished_at = now(), cancelled = $3, expired = $4 where job_id = $1")
        .bind(job.0)
        .bind(state)
        .bind(cancelled)
        .bind(expired)
        .execute(pool)
        .await
        .unwrap();
}

/// Line numbers, with the error's code behind those that failed.
async fn read(pool: &PgPool, job: JobId, query: ResultQuery) -> Vec<String> {
    let pieces: Vec<Bytes> = stream_from(pool.clone(), job, query).try_collect().await.unwrap();
    let text = String::from_utf8(pieces.concat()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let number = line["id"].as_str().unwrap().rsplit('_').next().unwrap().to_owned();
            assert_eq!(line["custom_id"], format!("c{number}"));
            match line["error"]["code"].as_str() {
                Some(code) => format!("{number} {code}"),
                None => number,
            }
        })
        .collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn while_it_runs_gaps_are_passed_over(pool: PgPool) {
    let job = job(&pool, 9).await;
    for (line, ok) in [(1, true), (2, false), (5, true), (8, true)] {
        finish_line(&pool, job, line, ok).await;
    }
    assert_eq!(read(&pool, job, ResultQuery::default()).await, ["1", "2 e", "5", "8"]);
    assert_eq!(read(&pool, job, ResultQuery { from: 3, ..ResultQuery::default() }).await, ["5", "8"]);
    assert_eq!(read(&pool, job, ResultQuery { failed: true, ..ResultQuery::default() }).await, ["2 e"]);
    assert!(read(&pool, job, ResultQuery { from: 10, ..ResultQuery::default() }).await.is_empty());
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_cancel_left_is_derived_in_line_order(pool: PgPool) {
    let job = job(&pool, 9).await;
    for (line, ok) in [(1, true), (4, false), (6, true)] {
        finish_line(&pool, job, line, ok).await;
    }
    end(&pool, job, "cancelled", 6, 0).await;
    let all = read(&pool, job, ResultQuery::default()).await;
    let expected =
        ["1", "2 C", "3 C", "4 e", "5 C", "6", "7 C", "8 C", "9 C"].map(|l| l.replace('C', "batch_cancelled"));
    assert_eq!(all, expected);
    for from in 1..=9 {
        let query = ResultQuery { from, follow: true, ..ResultQuery::default() };
        assert_eq!(read(&pool, job, query).await, expected[from as usize - 1..]);
    }
    let failed = read(&pool, job, ResultQuery { failed: true, ..ResultQuery::default() }).await;
    assert_eq!(failed, all.iter().filter(|line| line.contains(' ')).cloned().collect::<Vec<_>>());
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_expired_job_says_so(pool: PgPool) {
    let job = job(&pool, 2).await;
    finish_line(&pool, job, 1, true).await;
    end(&pool, job, "expired", 0, 1).await;
    assert_eq!(read(&pool, job, ResultQuery::default()).await, ["1", "2 batch_expired"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_follower_gets_every_line_in_order(pool: PgPool) {
    let job = job(&pool, 30).await;
    let query = ResultQuery { follow: true, ..ResultQuery::default() };
    let following = tokio::spawn({
        let pool = pool.clone();
        async move { read(&pool, job, query).await }
    });
    let mut order: Vec<i32> = (1..=30).collect();
    // Out of order, but the same in each run.
    order.sort_by_key(|line| (line * 17) % 31);
    for line in order {
        finish_line(&pool, job, line, true).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!following.is_finished(), "the job could still grow cancelled lines");
    end(&pool, job, "completed", 0, 0).await;
    let expected: Vec<String> = (1..=30).map(|line| line.to_string()).collect();
    assert_eq!(following.await.unwrap(), expected);
}

#[sqlx::test(migrations = "../../migrations")]
async fn many_results_come_in_bounded_pieces(pool: PgPool) {
    let job = job(&pool, 1).await;
    sqlx::query("update job set accepted = 3000").execute(&pool).await.unwrap();
    sqlx::query(
        "insert into result (job_id, line, custom_id, ok, attempts, status_code, endpoint, body)
         select $1, n, 'c' || n, true, 1, 200, 1, json_build_object('text', repeat('x', 2000)) from generate_series(1, 3000) n",
    )
    .bind(job.0)
    .execute(&pool)
    .await
    .unwrap();
    let pieces: Vec<Bytes> = stream_from(pool, job, ResultQuery::default()).try_collect().await.unwrap();
    assert!(pieces.len() >= 6);
    assert!(pieces.iter().all(|piece| piece.len() < 2 << 20 && piece.ends_with(b"}\n")));
    assert_eq!(pieces.concat().iter().filter(|byte| **byte == b'\n').count(), 3_000);
}

#[sqlx::test(migrations = "../../migrations")]
async fn purged_results_are_gone_and_unknown_jobs_unknown(pool: PgPool) {
    let job = job(&pool, 1).await;
    end(&pool, job, "completed", 0, 0).await;
    sqlx::query("update job set purged_at = now()").execute(&pool).await.unwrap();
    let outcome = |id| stream_from(pool.clone(), id, ResultQuery::default()).try_collect::<Vec<_>>();
    assert!(matches!(outcome(job).await, Err(ResultsError::Purged)));
    assert!(matches!(outcome(JobId(1)).await, Err(ResultsError::NoJob)));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_purge_while_it_is_read_is_no_clean_end(pool: PgPool) {
    let job = job(&pool, 2).await;
    finish_line(&pool, job, 1, true).await;
    end(&pool, job, "completed", 0, 0).await;
    let mut reading = Box::pin(stream_from(pool.clone(), job, ResultQuery::default()));
    assert!(reading.try_next().await.unwrap().is_some());
    sqlx::query("update job set purged_at = now()").execute(&pool).await.unwrap();
    assert!(matches!(reading.try_next().await, Err(ResultsError::Purged)));
}

#[sqlx::test(migrations = "../../migrations")]
async fn vectors_are_read_as_rows(pool: PgPool) {
    let job = job(&pool, 3).await;
    let floats: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|f| f.to_le_bytes()).collect();
    let envelope = r#"{"model":"e5-small","data":[{"index":1,"embedding":1},{"index":0,"embedding":0}]}"#;
    for line in [1, 3] {
        sqlx::query(
            "insert into result (job_id, line, custom_id, ok, attempts, endpoint, body, vectors, dims) values ($1, $2, 'c', true, 1, $3, $4, $5, 2)",
        )
        .bind(job.0)
        .bind(line)
        .bind(Endpoint::Embeddings.code())
        .bind(envelope)
        .bind(&floats)
        .execute(&pool)
        .await
        .unwrap();
    }
    finish_line(&pool, job, 2, true).await;
    let page = vectors_page(&mut pool.acquire().await.unwrap(), job, 1, 4).await.unwrap();
    assert_eq!(page.next, 4);
    let rows: Vec<_> = page.rows.iter().map(|row| (row.line, row.index, row.floats().collect::<Vec<_>>())).collect();
    let of = |line| [(line, 1, vec![3.0, 4.0]), (line, 0, vec![1.0, 2.0])];
    assert_eq!(rows, [of(1), of(3)].concat());
    assert!(page.rows.iter().all(|row| row.model.as_deref() == Some("e5-small")));
}

#[sqlx::test(migrations = "../../migrations")]
async fn lines_that_a_table_of_vectors_lacks_are_counted(pool: PgPool) {
    let job = job(&pool, 5).await;
    let floats: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|f| f.to_le_bytes()).collect();
    sqlx::query(
        "insert into result (job_id, line, custom_id, ok, attempts, endpoint, body, vectors, dims)
         values ($1, 1, 'c', true, 1, $2, '{}', $3, 2)",
    )
    .bind(job.0)
    .bind(Endpoint::Embeddings.code())
    .bind(&floats)
    .execute(&pool)
    .await
    .unwrap();
    finish_line(&pool, job, 2, true).await;
    finish_line(&pool, job, 3, false).await;
    let counted = count_vectors(&pool, job).await.unwrap();
    assert_eq!(counted, VectorLines { with_vectors: 1, left_out: 2, pending: 2 });
    end(&pool, job, "cancelled", 2, 0).await;
    let counted = count_vectors(&pool, job).await.unwrap();
    assert_eq!(counted, VectorLines { with_vectors: 1, left_out: 4, pending: 0 });
    sqlx::query("update job set purged_at = now()").execute(&pool).await.unwrap();
    assert!(matches!(count_vectors(&pool, job).await, Err(ResultsError::Purged)));
}

/// Retries, and a retry of a retry: a success stands for the line, else the newest failure, else its own.
#[sqlx::test(migrations = "../../migrations")]
async fn what_came_of_retries_takes_the_place_of_failures(pool: PgPool) {
    let job = job(&pool, 6).await;
    for line in 1..=5 {
        finish_line(&pool, job, line, line == 1).await;
    }
    end(&pool, job, "cancelled", 1, 0).await;
    // Line 2 succeeds at once, 3 with the retry's retry, 4 never; 5 is pending, 6 had been cancelled and then succeeds.
    let (second, third) = (JobId(job.0 + 10), JobId(job.0 + 20));
    for (of, of_line, by, line) in [
        (job, 2, second, 1),
        (job, 3, second, 2),
        (job, 4, second, 3),
        (job, 5, second, 4),
        (job, 6, second, 5),
        (second, 2, third, 1),
        (second, 3, third, 2),
    ] {
        sqlx::query("insert into retried (of_job, of_line, job_id, line) values ($1, $2, $3, $4)")
            .bind(of.0)
            .bind(of_line)
            .bind(by.0)
            .bind(line)
            .execute(&pool)
            .await
            .unwrap();
    }
    for (by, line, ok) in [(second, 1, true), (second, 2, false), (second, 3, false), (second, 5, true)] {
        finish_line(&pool, by, line, ok).await;
    }
    finish_line(&pool, third, 1, true).await;
    finish_line(&pool, third, 2, false).await;
    sqlx::query("update result set error_class = 'newest' where job_id = $1 and not ok")
        .bind(third.0)
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("update result set custom_id = 'c' || of_line from retried r where r.job_id = result.job_id and r.line = result.line and r.of_job = $1")
        .bind(job.0)
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("update result set custom_id = 'c' || line + 2 where job_id = $1")
        .bind(third.0)
        .execute(&pool)
        .await
        .unwrap();

    let merged = ResultQuery { merge: true, ..ResultQuery::default() };
    assert_eq!(read(&pool, job, merged).await, ["1", "2", "3", "4 newest", "5 e", "6"]);
    assert_eq!(read(&pool, job, ResultQuery { failed: true, ..merged }).await, ["4 newest", "5 e"]);
    assert_eq!(read(&pool, job, ResultQuery { from: 4, ..merged }).await, ["4 newest", "5 e", "6"]);
    let own = ResultQuery::default();
    assert_eq!(read(&pool, job, own).await, ["1", "2 e", "3 e", "4 e", "5 e", "6 batch_cancelled"]);
}
