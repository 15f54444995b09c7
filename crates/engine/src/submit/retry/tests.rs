//! Retries against a database of its own: which requests are copied, and where they end up.

use domain::RetryFilter;
use store::job::Scope;

use super::{
    super::{testing::Gateway, upload_permits::UploadPermits},
    *,
};
use crate::settings::UploadRate;

const SOMEBODY: Submitter<'_> = Submitter { team_id: 9, key_id: "somebody", lanes: &[] };

async fn place() -> UploadPermit {
    UploadPermits::new(1, UploadRate::default()).take(SOMEBODY).await.unwrap()
}

/// Lines 1 to 9 in two flows: every third goes to `chat`, the others to `e5`.
async fn job(gateway: &Gateway) -> JobId {
    let line = |n: i32| {
        let (url, model, input) = match n % 3 {
            0 => ("/v1/chat/completions", "chat", r#""messages":[{}],"max_tokens":9"#),
            _ => ("/v1/embeddings", "e5", r#""input":"text""#),
        };
        format!(
            "{{\"custom_id\":\"c{n}\",\"method\":\"POST\",\"url\":\"{url}\",\"body\":{{\"model\":\"{model}\",{input}}}}}\n"
        )
    };
    let upload: String = (1..=9).map(line).collect();
    gateway.submit(None, upload.as_bytes()).await.unwrap().job_id
}

/// Ends the job: lines 2, 3 and 8 failed, 9 never ran, the others succeeded.
async fn end(gateway: &Gateway, job: JobId) {
    for statement in [
        "insert into result (job_id, line, custom_id, ok, attempts, status_code, endpoint, body, error_class, deployment)
         select $1, n, 'c' || n, n not in (2, 3, 8), 1, case n when 8 then 400 when 2 then 500 when 3 then 500 else 200 end, 1, '{}',
                case n when 8 then 'invalid_request' when 2 then 'server_error' when 3 then 'server_error' end, 'd' || n % 2
         from generate_series(1, 8) n",
        "insert into job_tally (job_id, worker_id, succeeded, failed) values ($1, 1, 5, 3)",
        "delete from flow where job_id = $1",
        "update job set state = 'cancelled', cancelled = 1, finished_at = now() where job_id = $1",
    ] {
        sqlx::query(statement).bind(job.0).execute(&gateway.pool).await.unwrap();
    }
}

async fn retry(gateway: &Gateway, job: JobId, filter: RetryFilter) -> Result<Accepted, RetryError> {
    let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
    retry_by(gateway.intake(), who, Scope::Team(1), job, filter, None, place().await).await
}

fn errors(errors: &[&str]) -> RetryFilter {
    RetryFilter { errors: errors.iter().map(|error| (*error).to_owned()).collect(), ..RetryFilter::default() }
}

/// Line, custom id and route of each request, and the line of the first job.
async fn requests(gateway: &Gateway, job: JobId) -> Vec<(i32, String, String, i32)> {
    sqlx::query_as(
        "select i.line, i.custom_id, f.route, r.of_line
         from flow f join item i using (flow_id) join retried r on r.job_id = f.job_id and r.line = i.line
         where f.job_id = $1 order by i.line",
    )
    .bind(job.0)
    .fetch_all(&gateway.pool)
    .await
    .unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_failed_is_copied_in_order_over_all_flows(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let first = job(&gateway).await;
    let early = retry(&gateway, first, RetryFilter::default()).await;
    assert!(matches!(early, Err(RetryError::NotEnded { .. })), "{early:?}");
    end(&gateway, first).await;
    let made = retry(&gateway, first, RetryFilter::default()).await.unwrap();
    assert_eq!((made.accepted, made.replayed), (3, false));
    let expected = [(1, "c2", "e5", 2), (2, "c3", "chat", 3), (3, "c8", "e5", 8)];
    let expected = expected.map(|(line, id, route, of)| (line, id.to_owned(), route.to_owned(), of));
    assert_eq!(requests(&gateway, made.job_id).await, expected);
    let flows: Vec<(String, i32, i32, Option<i32>)> =
        sqlx::query_as("select route, next_pos, tail_pos, max_out from flow where job_id = $1 order by route")
            .bind(made.job_id.0)
            .fetch_all(&gateway.pool)
            .await
            .unwrap();
    assert_eq!(flows, [("chat".to_owned(), 0, 1, Some(9)), ("e5".to_owned(), 0, 2, Some(0))]);

    let again = retry(&gateway, first, RetryFilter::default()).await.unwrap();
    assert_eq!(again, Accepted { replayed: true, ..made });
    let actions: Vec<String> = sqlx::query_scalar("select action from audit where job_id = $1 order by audit_id")
        .bind(first.0)
        .fetch_all(&gateway.pool)
        .await
        .unwrap();
    assert_eq!(actions, ["submit", "retried"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_filter_says_which(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let first = job(&gateway).await;
    end(&gateway, first).await;
    let all = RetryFilter { unfinished: true, ..RetryFilter::default() };
    let status = RetryFilter { statuses: vec![400], ..RetryFilter::default() };
    let deployment = RetryFilter { deployments: vec!["d1".into()], ..RetryFilter::default() };
    for (filter, lines) in [
        (all, vec![2, 3, 8, 9]),
        (errors(&["server_error"]), vec![2, 3]),
        (errors(&["batch_cancelled"]), vec![9]),
        (errors(&["batch_cancelled", "invalid_request"]), vec![8, 9]),
        (status, vec![8]),
        (deployment, vec![3]),
    ] {
        let made = retry(&gateway, first, filter.clone()).await.unwrap();
        let got: Vec<i32> = requests(&gateway, made.job_id).await.into_iter().map(|request| request.3).collect();
        assert_eq!(got, lines, "{filter:?}");
    }
}

/// What cannot be retried says why and leaves nothing.
#[sqlx::test(migrations = "../../migrations")]
async fn what_cannot_be_retried_leaves_nothing(pool: PgPool) {
    let gateway = Gateway::new(pool).await;
    let first = job(&gateway).await;
    end(&gateway, first).await;
    let none = retry(&gateway, first, errors(&["throttled"])).await;
    assert!(matches!(none, Err(RetryError::Nothing)), "{none:?}");
    let who = Submitter { team_id: 2, key_id: "k", lanes: &gateway.lanes };
    let foreign =
        retry_by(gateway.intake(), who, Scope::Team(2), first, RetryFilter::default(), None, place().await).await;
    assert!(matches!(foreign, Err(RetryError::NotFound)), "{foreign:?}");
    let no_lane = Submitter { team_id: 1, key_id: "k", lanes: &[Lane::prod()] };
    let refused =
        retry_by(gateway.intake(), no_lane, Scope::Team(1), first, RetryFilter::default(), None, place().await).await;
    assert!(matches!(refused, Err(RetryError::Submit(SubmitError::LaneNotAllowed { .. }))), "{refused:?}");
    sqlx::query("delete from item where line % 3 = 0").execute(&gateway.pool).await.unwrap();
    let purged = retry(&gateway, first, errors(&["server_error"])).await;
    assert!(matches!(purged, Err(RetryError::Purged)), "{purged:?}");
    assert_eq!(gateway.count("idempotency").await, 0, "a key is taken by what came to nothing");
}

/// It copies as much as an upload brings, so it needs the room of one until it is done.
#[sqlx::test(migrations = "../../migrations")]
async fn a_retry_takes_the_place_of_an_upload(pool: PgPool) {
    let (gateway, places) =
        (std::sync::Arc::new(Gateway::new(pool.clone()).await), UploadPermits::new(1, UploadRate::default()));
    let first = job(&gateway).await;
    end(&gateway, first).await;
    let mut held = pool.begin().await.unwrap();
    sqlx::query("lock table retried in exclusive mode").execute(&mut *held).await.unwrap();
    let who = Submitter { team_id: 1, key_id: "k", lanes: &[] };
    let place = places.take(who).await.unwrap();
    let retry = tokio::spawn({
        let gateway = std::sync::Arc::clone(&gateway);
        async move {
            let who = Submitter { team_id: 1, key_id: "k", lanes: &gateway.lanes };
            retry_by(gateway.intake(), who, Scope::Team(1), first, RetryFilter::default(), None, place).await
        }
    });
    assert!(matches!(places.take(SOMEBODY).await, Err(SubmitError::Busy { uploads: 1 })), "it is still copying");
    held.rollback().await.unwrap();
    assert_eq!(retry.await.unwrap().unwrap().accepted, 3);
    assert!(places.take(SOMEBODY).await.is_ok());
}
