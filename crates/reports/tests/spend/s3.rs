//! From S3, by polars' own reader.

use domain::money::Total;
use reports::{ReportError, Source, spend};

use crate::{
    files::{call, day, write_lake},
    groups::query,
    s3_server::S3Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_read_like_a_folder() {
    let server = S3Server::start().await;
    let folder = server.folder().join("some/lake");
    std::fs::create_dir_all(&folder).unwrap();
    let rows: Vec<_> = (0..3000).map(|n| call(day("2026-03-09"), ["a", "b"][n % 2], Some(n as i64))).collect();
    let manifest = write_lake(&folder, &rows);
    let source = Source::new("s3://bucket/some/lake/", Some(manifest.clone())).with_settings(server.settings());
    let report = tokio::task::spawn_blocking(move || spend(&source, &query("team,day"))).await.unwrap().unwrap();
    let sums: Vec<_> = report.rows.iter().map(|row| (row.keys[0].as_deref().unwrap(), row.measures.cost_usd)).collect();
    let sum = |odd: i128| Some(Total((0..3000i128).filter(|n| n % 2 == odd).sum()));
    assert_eq!(sums, [("b", sum(1)), ("a", sum(0))]);

    let elsewhere = Source::new("s3://bucket/another/lake", Some(manifest)).with_settings(server.settings());
    let gone = tokio::task::spawn_blocking(move || spend(&elsewhere, &query("team"))).await.unwrap();
    assert!(matches!(gone, Err(ReportError::Lake(_))), "{gone:?}");
}
