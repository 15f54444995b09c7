use sha2::{Digest, Sha256};

use super::*;
use crate::{
    rate::Class,
    terms::{Processing, Terms},
};

#[test]
fn the_shipped_list_is_whole_and_its_hash_holds() {
    let head: serde_json::Value = serde_json::from_str(PRICES_JSON).unwrap();
    let (_, after) = PRICES_JSON.split_once("\"providers\":").unwrap();
    let digest = Sha256::digest(format!("\"providers\":{after}").as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(head["sha256"], digest);
    assert_eq!(
        *SHIPPED.price_version,
        format!("genai-prices-{}-{}", head["package_version"].as_str().unwrap(), &digest[..12])
    );
    assert!(SHIPPED.models().count() > 2_000);
}

/// What `estimate` builds on: a longer prompt has no lower rate. (A negative figure does not even parse.)
#[test]
fn no_rate_sinks_with_the_size_of_the_prompt() {
    let at = "2026-12-01T00:00:00Z".parse().unwrap();
    for (provider, model) in SHIPPED.models() {
        for processing in [Processing::Sync, Processing::ProviderBatch] {
            let rates = model.rates(at, Terms { processing, service_tier: None }, true).rates;
            for class in [Class::Input, Class::CacheRead, Class::CacheWrite, Class::CacheWrite1h, Class::Output] {
                let by_size = [0, 100_001, 200_001, 300_000, 2_000_000].map(|prompt| rates.get(class, prompt));
                assert!(by_size.is_sorted(), "{provider} {} {class:?}: {by_size:?}", model.id);
            }
        }
    }
}

#[test]
fn compact_dates_become_dashed_ones() {
    let seen = [
        "gpt-5.2-20251211",
        "m-20251211:free",
        "m-20251311",
        "m20251211",
        "20251211-m",
        "m-2025-12-11",
        "a-20250101-20250102",
    ]
    .map(with_dashed_date);
    let want = [
        Some("gpt-5.2-2025-12-11"),
        Some("m-2025-12-11:free"),
        None,
        None,
        None,
        None,
        Some("a-2025-01-01-2025-01-02"),
    ];
    assert_eq!(seen.each_ref().map(Option::as_deref), want);
}
