//! What every operation has in common, added to the document: each status that it answers with, each header of an answer, and
//! each parameter that may also be a header. The source says of an operation's errors only `default`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{access::Access, problem::Kind, surface::Surface};

/// Statuses beside those that follow from an operation's form: see [`usual`].
const FURTHER: &[(&str, &[u16])] = &[
    ("POST /api/v1/jobs", &[402, 404, 409, 415]),
    ("PATCH /api/v1/jobs/{id}", &[402, 409, 410]),
    ("DELETE /api/v1/jobs/{id}", &[409, 410]),
    ("POST /api/v1/jobs/{id}/pause", &[409, 410]),
    ("POST /api/v1/jobs/{id}/resume", &[409, 410]),
    ("POST /api/v1/jobs/{id}/cancel", &[409, 410]),
    ("POST /api/v1/jobs/{id}/approve", &[409, 410]),
    ("POST /api/v1/jobs/{id}/retry", &[402, 409, 410]),
    ("GET /api/v1/jobs/{id}/failures", &[410]),
    ("GET /api/v1/jobs/{id}/history", &[410]),
    ("GET /api/v1/jobs/{id}/results", &[410, 422]),
    ("POST /api/v1/quotes", &[402, 404, 409, 415]),
    ("POST /api/v1/schedules", &[402, 404, 409, 415]),
    ("PUT /api/v1/lanes/{id}", &[409]),
    ("DELETE /api/v1/lanes/{id}", &[409]),
    ("PUT /api/v1/limits", &[404, 409]),
    ("DELETE /api/v1/limits", &[404, 409, 422]),
    ("PUT /api/v1/budgets/{id}", &[409]),
    ("DELETE /api/v1/budgets/{id}", &[409]),
    ("POST /api/v1/alerts/test", &[409]),
    ("GET /api/v1/reports/spend", &[404, 422]),
    ("POST /api/v1/teams", &[409]),
    ("DELETE /api/v1/teams/{id}", &[409]),
    ("POST /api/v1/teams/{id}/webhook-secret", &[409]),
    ("DELETE /api/v1/keys/{id}", &[409]),
    ("POST /api/v1/ledger/{id}/correct", &[409]),
    ("POST /v1/chat/completions", &[402, 404, 502, 504]),
    ("POST /v1/embeddings", &[402, 404, 502, 504]),
];

/// Operations that take the parameters of a job, as query or header.
const SUBMISSIONS: [&str; 2] = ["POST /api/v1/jobs", "POST /api/v1/quotes"];
/// Parameters of a submission that are no headers, or not those of a quote.
const QUERY_ONLY: &str = "dry_run";

pub fn complete(mut document: Value, access: impl Fn(&str, &str) -> Option<Access>) -> Value {
    if let Some(components) = document["components"].as_object_mut() {
        add_components(components);
    }
    let of_a_job: Vec<Value> =
        document["paths"]["/api/v1/jobs"]["post"]["parameters"].as_array().cloned().unwrap_or_default();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths {
        let Some(item) = item.as_object_mut() else { continue };
        for (method, operation) in item.iter_mut().filter(|(key, _)| *key != "parameters") {
            let method = method.to_uppercase();
            let name = format!("{method} {path}");
            if SUBMISSIONS.contains(&name.as_str()) {
                operation["parameters"] = as_headers_too(&of_a_job, name == SUBMISSIONS[1]).into();
            }
            let statuses = usual(path, operation, access(&method, path));
            let further =
                FURTHER.iter().filter(|(of, _)| *of == name).flat_map(|(_, statuses)| statuses.iter().copied());
            add_responses(operation, path, statuses.into_iter().chain(further).collect());
        }
    }
    document
}

/// What follows from the form of an operation.
fn usual(path: &str, operation: &Value, access: Option<Access>) -> BTreeSet<u16> {
    // Any path and any query may hold what cannot be read.
    let mut statuses = BTreeSet::from([400]);
    if operation["responses"].get("default").is_none() {
        return statuses;
    }
    statuses.extend([500, 503]);
    if matches!(access, Some(Access::Needs(_))) {
        // Too many refused keys are 429 on every route.
        statuses.extend([401, 403, 429]);
    }
    if path.contains('{') {
        statuses.insert(404);
    }
    if operation.get("requestBody").is_some() {
        statuses.extend([408, 413, 422]);
    }
    statuses
}

fn add_responses(operation: &mut Value, path: &str, statuses: BTreeSet<u16>) {
    let surface = Surface::of(path);
    let is_call = surface == Surface::OpenAi && operation.get("requestBody").is_some();
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for response in responses.values_mut().filter(|response| response.get("$ref").is_none()) {
        response["headers"]["x-request-id"] = json!({ "$ref": "#/components/headers/RequestId" });
    }
    // A provider's own refusal passes with its status.
    if !is_call {
        responses.remove("default");
    }
    for status in statuses {
        responses.entry(status.to_string()).or_insert_with(|| json!({ "$ref": reference(surface, status) }));
    }
}

fn reference(surface: Surface, status: u16) -> String {
    format!("#/components/responses/{}{status}", prefix(surface))
}

fn prefix(surface: Surface) -> &'static str {
    if surface == Surface::OpenAi { "OpenAi" } else { "Problem" }
}

fn add_components(components: &mut Map<String, Value>) {
    components.insert(
        "headers".to_owned(),
        json!({
            "RequestId": {
                "required": true,
                "description": "Names this request; of a synchronous call it is x-tollway-request-id too. Support asks for it.",
                "schema": {"type": "string", "pattern": "^req_[0-9a-z]{13}_0$"}
            },
            "RetryAfter": {"description": "Seconds after which trying again may help.", "schema": {"type": "integer", "minimum": 1}},
            "WwwAuthenticate": {"required": true, "description": "How to send a key.", "schema": {"const": "Bearer"}}
        }),
    );
    let mut by_status = BTreeMap::<u16, Vec<Kind>>::new();
    for kind in Kind::ALL {
        by_status.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    let Some(responses) = components.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, kinds) in by_status {
        for surface in [Surface::Native, Surface::OpenAi] {
            responses.insert(format!("{}{status}", prefix(surface)), error_response(surface, status, &kinds));
        }
    }
}

fn error_response(surface: Surface, status: u16, kinds: &[Kind]) -> Value {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    let codes: Vec<&str> = kinds.iter().map(|kind| kind.code()).collect();
    let mut headers = json!({"x-request-id": {"$ref": "#/components/headers/RequestId"}});
    if matches!(status, 402 | 429 | 503 | 504) {
        headers["Retry-After"] = json!({"$ref": "#/components/headers/RetryAfter"});
    }
    if status == 401 {
        headers["WWW-Authenticate"] = json!({"$ref": "#/components/headers/WwwAuthenticate"});
    }
    let content = match surface {
        Surface::OpenAi => json!({"application/json": {"schema": {"$ref": "#/components/schemas/OpenAiError"}}}),
        _ => json!({
            "application/problem+json": {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Problem"},
                        {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
                    ]
                }
            }
        }),
    };
    json!({"description": format!("{}.", titles.join("; or: ")), "headers": headers, "content": content})
}

/// The parameters of a submission, each of the query as a header too.
fn as_headers_too(parameters: &[Value], is_quote: bool) -> Vec<Value> {
    let name = |parameter: &Value| parameter["name"].as_str().unwrap_or_default().to_owned();
    let is_query = |parameter: &&Value| parameter["in"] == "query" && name(parameter) != QUERY_ONLY;
    let twin = |parameter: &Value| {
        let mut twin = parameter.clone();
        twin["name"] = format!("x-tollway-{}", name(parameter).replace('_', "-")).into();
        twin["in"] = "header".into();
        let more = if twin["name"] == "x-tollway-tags" { " In UTF-8, or percent-encoded." } else { "" };
        twin["description"] =
            format!("As `{}`, which wins over it; it wins over the first line.{more}", name(parameter)).into();
        twin
    };
    let twins = parameters.iter().filter(is_query).map(twin);
    let taken = parameters.iter().filter(|parameter| !is_quote || is_query(parameter)).cloned();
    taken.chain(twins).collect()
}
