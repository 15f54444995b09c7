use store::PgPool;

use super::*;
use crate::{alerts::message::tests::assert_sent, testing};

fn now() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn row(error: Option<ErrorClass>, usage_source: Option<&str>) -> LedgerRow {
    let at = "2026-11-23T11:59:59Z";
    let mut row: LedgerRow = serde_json::from_value(serde_json::json!({
        "attempt_id": "01939d8e-0000-7000-8000-000000000001", "request_id": "req_0000000000001_0", "attempt_no": 1,
        "attempt_reason": "primary", "is_final": true, "record_kind": "original", "requested_at": at, "completed_at": at,
        "recorded_at": at, "usage_date": "2026-11-23", "reserved_at": at, "team": "t", "environment": "", "feature": "",
        "key_id": "k", "worker_id": 1, "provider": "openai", "deployment": "priced-model", "model_requested": "chat",
        "model_billed": "priced-model", "processing": "sync", "lane": "prod", "status": "failed", "billable": false,
        "cache_hit": false, "price_status": "priced",
    }))
    .unwrap();
    row.error_class = error.map(|class| class.as_str().to_owned());
    row.usage_source = usage_source.map(str::to_owned);
    row.http_status = Some(429);
    (row.contracted_cost, row.prompt_total) = (Some(1_500_000_000_000), Some(9_000));
    row
}

#[test]
fn a_call_says_that_the_account_is_empty_or_that_its_usage_cannot_be() {
    let kind = |error, source| kind_of(&row(error, source));
    assert_eq!(kind(Some(ErrorClass::QuotaExhausted), None), Some(AlertKind::ProviderQuota));
    assert_eq!(kind(None, Some("implausible")), Some(AlertKind::ImplausibleUsage));
    for error in ErrorClass::ALL.iter().filter(|class| **class != ErrorClass::QuotaExhausted) {
        assert_eq!(kind(Some(*error), None), None, "{error:?}");
    }
    for source in ["provider", "estimated"] {
        assert_eq!(kind(None, Some(source)), None, "{source}");
    }
}

#[test]
fn what_is_sent() {
    assert_sent("provider_quota", &of(&row(Some(ErrorClass::QuotaExhausted), None), now()).unwrap());
    assert_sent("implausible_usage", &of(&row(None, Some("implausible")), now()).unwrap());
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_account_without_quota_is_told_at_once_and_once_an_hour(pool: PgPool) {
    let notifier = testing::notifier(&pool).await;
    let stop = CancellationToken::new();
    let telling = tokio::spawn(tell_of_notices(Arc::clone(&notifier), stop.clone()));
    let row = row(Some(ErrorClass::QuotaExhausted), None);
    notifier.notices.see(std::iter::repeat_n(&row, 600));
    let told = async || {
        let mut conn = pool.acquire().await.unwrap();
        store::alert::list(&mut conn, None, None, 10).await.unwrap()
    };
    let began = std::time::Instant::now();
    while told().await.is_empty() && began.elapsed() < std::time::Duration::from_secs(20) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    notifier.notices.see(std::iter::once(&row));
    stop.cancel();
    telling.await.unwrap();
    let told = told().await;
    assert_eq!(told.iter().map(|alert| alert.kind).collect::<Vec<_>>(), [AlertKind::ProviderQuota]);
    assert_eq!(told[0].object, row.deployment);
}
