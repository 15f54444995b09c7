//! A lake to report on: files as the exporter writes them, and their manifest.

use std::{collections::BTreeMap, fs, path::Path};

use chrono::{NaiveDate, TimeDelta};
use domain::{
    LedgerRow,
    manifest::{LakeFile, MANIFEST, Manifest, SegmentSet},
};
use lake::file::{FileWriter, Order};
use uuid::Uuid;

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A call of the day that succeeded and cost `pico`, at list price too.
pub fn call(usage_date: NaiveDate, team: &str, pico: Option<i64>) -> LedgerRow {
    let at = usage_date.and_hms_opt(23, 59, 59).unwrap().and_utc() + TimeDelta::microseconds(999_999);
    LedgerRow {
        attempt_id: Uuid::nil(),
        request_id: "req_0000000000001_1".into(),
        job_id: None,
        custom_id: None,
        provider_request_id: None,
        attempt_no: 1,
        attempt_reason: "primary".into(),
        fallback_from: None,
        is_final: true,
        record_kind: "original".into(),
        corrects_attempt_id: None,
        requested_at: at,
        completed_at: at,
        recorded_at: at,
        usage_date,
        reserved_at: at,
        team: team.into(),
        environment: "prod".into(),
        feature: "reindex".into(),
        customer: None,
        cost_center: None,
        key_id: None,
        tags_json: None,
        worker_id: 1,
        provider: "openai".into(),
        deployment: "openai-small".into(),
        billing_account: None,
        provider_project: None,
        region: None,
        model_requested: "small".into(),
        model_billed: "text-embedding-3-small".into(),
        service_tier: None,
        processing: "sync".into(),
        lane: "bulk".into(),
        input_uncached: Some(70),
        cache_read: Some(30),
        cache_write_5m: None,
        cache_write_1h: None,
        input_audio: None,
        input_image: None,
        output_text: Some(5),
        output_reasoning: Some(2),
        output_audio: None,
        prompt_total: Some(100),
        usage_source: Some("provider".into()),
        queue_ms: None,
        ttft_ms: None,
        latency_ms: None,
        status: "succeeded".into(),
        http_status: Some(200),
        error_class: None,
        billable: true,
        cache_hit: false,
        reserved: None,
        cost_input: pico,
        cost_cache_read: None,
        cost_cache_write: None,
        cost_output: None,
        cost_other: None,
        list_cost: pico,
        contracted_cost: pico,
        cost_if_uncached: pico,
        cost_if_not_batch: pico,
        price_version: None,
        price_status: if pico.is_some() { "priced".into() } else { "unpriced".into() },
    }
}

/// Writes the rows of each day as two files, one hot and one sealed, and lists them.
pub fn write_lake(folder: &Path, rows: &[LedgerRow]) -> Manifest {
    let mut manifest = Manifest::default();
    let mut days: BTreeMap<NaiveDate, Vec<&LedgerRow>> = BTreeMap::new();
    for row in rows {
        days.entry(row.usage_date).or_default().push(row);
    }
    for (usage_date, rows) in days {
        let (hot, sealed) = rows.split_at(rows.len() / 2);
        for (place, rows, order) in [("hot", hot, Order::Attempt), ("ledger", sealed, Order::Billing)] {
            if !rows.is_empty() {
                let segment = manifest.files.len() as i64 + 1;
                let name = format!("{place}/usage_date={usage_date}/seg-{segment}.parquet");
                let path = folder.join(&name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut writer = FileWriter::new(fs::File::create(&path).unwrap(), rows.len() as u64, order).unwrap();
                rows.iter().for_each(|row| writer.push(row).unwrap());
                let (file, digest) = writer.finish().unwrap();
                manifest.files.push(LakeFile {
                    name,
                    usage_date,
                    rows: digest.rows,
                    bytes: file.metadata().unwrap().len(),
                    content_hash: digest.hash(),
                    segments: SegmentSet::from_iter([segment]),
                });
            }
        }
    }
    fs::write(folder.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
    manifest
}
