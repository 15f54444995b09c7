//! The API's own description. Its text is written by hand, so that it says what a user needs; what all operations share is added to
//! it, see [`complete`]. Tests hold it to the router, to the types and to what is really answered.

mod complete;

use crate::access::Access;

const SOURCE: &str = include_str!("../openapi.json");

/// As it is served. `access_of`: which callers may take a route, by its method and path.
pub fn document(access_of: impl Fn(&str, &str) -> Option<Access>) -> String {
    let source = serde_json::from_str(SOURCE).unwrap_or_default();
    complete::complete(source, access_of).to_string()
}

/// `METHOD /path` of every operation.
#[cfg(test)]
pub fn operations() -> std::collections::BTreeSet<String> {
    let document: serde_json::Value = serde_json::from_str(&crate::router::DOCUMENT).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &serde_json::Value)| -> Vec<String> {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

/// Whether an operation says that it may answer with this status.
#[cfg(test)]
pub fn has_status(method: &str, path: &str, status: u16) -> bool {
    static PARSED: std::sync::LazyLock<serde_json::Value> =
        std::sync::LazyLock::new(|| serde_json::from_str(&crate::router::DOCUMENT).unwrap());
    let responses = &PARSED["paths"][path.replace("{*", "{")][method.to_lowercase()]["responses"];
    responses.get(status.to_string()).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::problem::Kind;

    fn document() -> Value {
        serde_json::from_str(&crate::router::DOCUMENT).unwrap()
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
    fn every_operation_names_each_of_its_statuses() {
        let document = document();
        for operation in operations() {
            let (method, path) = operation.split_once(' ').unwrap();
            let is_call = path.starts_with("/v1/") && method == "POST";
            let responses = &document["paths"][path][method.to_lowercase()]["responses"];
            assert_eq!(responses.get("default").is_some(), is_call, "{operation}");
            for (status, response) in responses.as_object().unwrap() {
                let response = match response["$ref"].as_str() {
                    Some(to) => document.pointer(to.trim_start_matches('#')).unwrap(),
                    None => response,
                };
                let names_it = status == "default" || response["headers"].get("x-request-id").is_some();
                assert!(names_it || operation == "GET /readyz", "{operation} {status}");
            }
        }
        assert!(has_status("GET", "/api/v1/jobs/{id}", 404) && has_status("GET", "/v1/models/{*id}", 404));
        assert!(!has_status("GET", "/api/v1/jobs", 404) && !has_status("GET", "/livez", 401));
    }

    #[test]
    fn every_parameter_of_a_submission_is_a_header_too() {
        let document = document();
        let names = |path: &str, place: &str| -> BTreeSet<String> {
            let parameters = document["paths"][path]["post"]["parameters"].as_array().unwrap();
            let in_place = parameters.iter().filter(|parameter| parameter["in"] == place);
            in_place.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
        };
        let headers = names("/api/v1/quotes", "header");
        for name in names("/api/v1/quotes", "query") {
            assert!(headers.contains(&format!("x-tollway-{}", name.replace('_', "-"))), "{name}");
        }
        assert_eq!(headers.len(), names("/api/v1/quotes", "query").len());
        assert!(
            names("/api/v1/jobs", "query").contains("dry_run")
                && names("/api/v1/jobs", "header").contains("Idempotency-Key")
        );
    }

    #[test]
    fn all_kinds_of_alerts_are_listed() {
        let kinds: Vec<_> = domain::AlertKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let listed = &document()["components"]["schemas"]["Alert"]["properties"]["kind"]["enum"];
        assert_eq!(*listed, serde_json::json!(kinds));
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
