//! The API's own description. Written by hand, so that it says what a user needs; tests hold it to the router and to the
//! types.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

const DOCUMENT: &str = include_str!("../openapi.json");

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// `METHOD /path` of every operation.
#[cfg(test)]
pub fn operations() -> std::collections::BTreeSet<String> {
    let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &serde_json::Value)| -> Vec<String> {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::problem::Kind;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn properties(schema: &str) -> BTreeSet<String> {
        document()["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    found.push(to.clone());
                }
                map.values().for_each(|inner| references(inner, found));
            }
            Value::Array(list) => list.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_job_is_described_as_it_is_sent() {
        let job = serde_json::json!({
            "id": "job_0000000000001", "state": "queued", "team": "t", "lane": "bulk", "name": null, "tags": {},
            "priority": 0, "counts": { "accepted": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0, "pending": 0 },
            "in_flight": 0, "cost_usd": "0.00", "unpriced": 0, "waiting_reason": null, "waits": null, "retry_of": null, "after": null,
            "created_at": "2026-01-01T00:00:00Z", "started_at": null, "finished_at": null, "deadline_at": null,
            "purge_at": null
        });
        let job: domain::Job = serde_json::from_value(job).unwrap();
        let sent = serde_json::to_value(&job).unwrap();
        let keys = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(properties("Job"), keys(&sent));
        assert_eq!(properties("Counts"), keys(&sent["counts"]));
        let event = serde_json::to_value(domain::job::Progress::from(&job)).unwrap();
        assert_eq!(properties("JobEvent"), keys(&event));
        assert!(properties("Job").is_superset(&keys(&event)), "an event says what the job does not");
        let params = domain::job::JobParams { max_cost: Some(domain::money::Total(1)), ..Default::default() };
        let params = serde_json::to_value(params).unwrap();
        assert_eq!(properties("JobParams"), keys(&params));
    }

    #[test]
    fn a_lanes_rule_and_why_it_waits_are_described_as_they_are() {
        use domain::{
            catalog::{LaneClass, LaneRule},
            waits::WaitReason,
        };
        let rule = LaneRule {
            deadline_s: Some(1),
            max_attempts: Some(1),
            backoff_ms: Some(1),
            backoff_max_ms: Some(1),
            aging_s: Some(1),
            closed: true,
            max_percent: 50,
            ..LaneRule::new(LaneClass::Strict, 1)
        };
        let sent = serde_json::to_value(&rule).unwrap();
        let keys: BTreeSet<String> = sent.as_object().unwrap().keys().cloned().collect();
        assert_eq!(properties("LaneRule"), keys);
        assert!(properties("Lane").is_superset(&keys));
        let reasons: Vec<_> = WaitReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(
            document()["components"]["schemas"]["Waits"]["properties"]["reason"]["enum"],
            serde_json::json!(reasons)
        );
    }

    #[test]
    fn a_line_of_the_audit_is_described_as_it_is_sent() {
        let line = domain::AuditLine {
            at: chrono::DateTime::UNIX_EPOCH,
            action: "set".to_owned(),
            object: "lane:bulk".to_owned(),
            key_id: None,
            team: None,
            details: serde_json::json!({}),
        };
        let sent = serde_json::to_value(&line).unwrap();
        let keys: BTreeSet<String> = sent.as_object().unwrap().keys().cloned().collect();
        assert_eq!(properties("AuditLine"), keys);
        let actions: Vec<_> = domain::Action::ALL.iter().map(|action| action.as_str()).collect();
        let listed = document()["components"]["schemas"]["AuditLine"]["properties"]["action"]["enum"].clone();
        assert_eq!(listed, serde_json::json!(actions));
    }

    #[test]
    fn the_document_knows_all_codes_of_problems() {
        let listed = document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
        let codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(listed, serde_json::json!(codes));
    }
}
