use serde_json::json;

use super::*;

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[track_caller]
fn refused(patch: Value, says: &str) {
    let error = Config::default().patched(fields(patch)).expect_err("refused");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_patch_replaces_what_it_names_and_null_restores_the_default() {
    let config = Config { seed: 7, rpm: Some(3), ..Config::default() };
    let patched = config.patched(fields(json!({"rpm": null, "hang_rate": 0.5}))).expect("sound");
    assert_eq!(patched, Config { seed: 7, hang_rate: 0.5, ..Config::default() });
}

#[test]
fn deployments_differ_from_the_default_in_the_fields_they_name() {
    let config: Config = serde_json::from_value(json!({
        "answer_tokens": 5,
        "deployments": {"slow": {"latency": {"kind": "fixed", "ms": 20}}}
    }))
    .expect("sound");
    config.check().expect("sound");
    let slow = config.of_deployment("slow").expect("sound");
    assert_eq!(slow.answer_tokens, 5);
    assert_eq!(slow.latency, Latency::Fixed { ms: 20.0 });
    assert_eq!(config.of_deployment("other").expect("sound").latency, Latency::default());
}

#[test]
fn bad_values_are_named() {
    refused(json!({"hang_rat": 1}), "unknown field `hang_rat`");
    refused(json!({"hang_rate": 0.6, "cut_rate": 0.6}), "add up to at most 1");
    refused(json!({"latency": {"kind": "uniform", "min_ms": 9, "max_ms": 1}}), "latency");
    refused(json!({"throttle": [{"status": 200, "for_ms": 1}]}), "throttle.status");
    refused(json!({"embedding_dimensions": 0}), "embedding_dimensions");
    refused(json!({"journal_path": "/tmp/j"}), "only be set when the simulator starts");
    refused(json!({"deployments": {"a": {}}}), "only be set when the simulator starts");
}

#[test]
fn a_deployments_bad_field_or_name_is_found_at_the_start() {
    let check = |deployments: Value| {
        serde_json::from_value::<Config>(json!({ "deployments": deployments }))
            .expect("shape")
            .check()
            .expect_err("refused")
            .to_string()
    };
    assert!(check(json!({"b": {"sead": 1}})).contains("deployment \"b\": unknown field `sead`"));
    assert!(check(json!({"a/b": {}})).contains("deployment name \"a/b\""));
}
