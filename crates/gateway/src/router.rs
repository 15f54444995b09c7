//! Every route and who may take it. A route that is not in this list does not exist; one that is in it has an access layer that authenticates, checks the permission and measures.

use std::{convert::Infallible, fmt::Write as _, sync::LazyLock};

use axum::{
    Router,
    extract::Request,
    handler::Handler,
    http::{HeaderValue, Method, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use engine::admit::Permission::{
    ApproveJobs, CallModels, CorrectLedger, DeleteJobs, Enter, ManageJobs, ManageKeys, ManageLimits, ManageTeams,
    ManageWebhookSecrets, ReadAudit, ReadCalls, ReadJobs, ReadLanes, ReadLimits, ReadResults, ReadSpend, ReadTeams,
    SubmitJobs,
};

use crate::{
    App,
    access::{
        Access::{self, Needs, Open},
        AccessLayer, authorize,
    },
    api::{
        alerts, audit, budgets, calls, change, deployments, events, history, jobs, keys, lanes, ledger, limits, quotes,
        reports, results, retry, schedules, submit, teams, webhook_secrets,
    },
    entry::enter,
    health, openai, openapi,
    problem::{Kind, Problem},
    suggest,
    surface::Surface,
    telemetry,
};

#[rustfmt::skip]
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get   ("/livez",                      Open,                health::livez),
        get   ("/readyz",                     Open,                health::readyz),
        get   ("/metrics",                    Open,                telemetry::metrics),
        get   ("/api/openapi.json",           Needs(Enter),        document),

        post  ("/api/v1/jobs",                Needs(SubmitJobs),   submit::create),
        get   ("/api/v1/jobs",                Needs(ReadJobs),     jobs::list),
        get   ("/api/v1/jobs/{id}",           Needs(ReadJobs),     jobs::get),
        patch ("/api/v1/jobs/{id}",           Needs(ManageJobs),   change::change),
        delete("/api/v1/jobs/{id}",           Needs(DeleteJobs),   jobs::delete),
        post  ("/api/v1/jobs/{id}/pause",     Needs(ManageJobs),   jobs::pause),
        post  ("/api/v1/jobs/{id}/resume",    Needs(ManageJobs),   jobs::resume),
        post  ("/api/v1/jobs/{id}/cancel",    Needs(ManageJobs),   jobs::cancel),
        post  ("/api/v1/jobs/{id}/approve",   Needs(ApproveJobs),  jobs::approve),
        post  ("/api/v1/jobs/{id}/retry",     Needs(SubmitJobs),   retry::create),
        get   ("/api/v1/jobs/{id}/failures",  Needs(ReadResults),  retry::failures),
        get   ("/api/v1/jobs/{id}/history",   Needs(ReadJobs),     history::list),
        get   ("/api/v1/jobs/{id}/results",   Needs(ReadResults),  results::stream),
        get   ("/api/v1/jobs/{id}/events",    Needs(ReadJobs),     events::follow),

        post  ("/api/v1/quotes",              Needs(SubmitJobs),   quotes::create),

        post  ("/api/v1/schedules",           Needs(SubmitJobs),   schedules::create),
        get   ("/api/v1/schedules",           Needs(ReadJobs),     schedules::list),
        delete("/api/v1/schedules/{id}",      Needs(SubmitJobs),   schedules::delete),

        get   ("/api/v1/lanes",               Needs(ReadLanes),    lanes::list),
        put   ("/api/v1/lanes/{id}",          Needs(ManageLimits), lanes::put),
        delete("/api/v1/lanes/{id}",          Needs(ManageLimits), lanes::remove),
        get   ("/api/v1/limits",              Needs(ReadLimits),   limits::list),
        put   ("/api/v1/limits",              Needs(ManageLimits), limits::put),
        delete("/api/v1/limits",              Needs(ManageLimits), limits::remove),
        get   ("/api/v1/deployments",         Needs(ReadLimits),   deployments::list),
        post  ("/api/v1/deployments/{id}/cool",    Needs(ManageLimits), deployments::cool),
        post  ("/api/v1/deployments/{id}/release", Needs(ManageLimits), deployments::release),
        get   ("/api/v1/budgets",             Needs(ReadLimits),   budgets::list),
        get   ("/api/v1/budgets/{id}",        Needs(ReadLimits),   budgets::get),
        put   ("/api/v1/budgets/{id}",        Needs(ManageLimits), budgets::put),
        delete("/api/v1/budgets/{id}",        Needs(ManageLimits), budgets::remove),
        get   ("/api/v1/alerts",              Needs(ReadLimits),   alerts::list),
        post  ("/api/v1/alerts/test",         Needs(ManageLimits), alerts::test),
        get   ("/api/v1/alerts/{id}",         Needs(ReadLimits),   alerts::get),
        get   ("/api/v1/calls/{id}",          Needs(ReadCalls),    calls::get),
        post  ("/api/v1/ledger/{id}/correct", Needs(CorrectLedger), ledger::post),
        get   ("/api/v1/reports/spend",       Needs(ReadSpend),    reports::spend),

        get   ("/api/v1/teams",               Needs(ReadTeams),    teams::list),
        post  ("/api/v1/teams",               Needs(ManageTeams),  teams::create),
        get   ("/api/v1/teams/{id}",          Needs(ReadTeams),    teams::get),
        delete("/api/v1/teams/{id}",          Needs(ManageTeams),  teams::disable),
        get   ("/api/v1/teams/{id}/webhook-secret", Needs(ManageWebhookSecrets), webhook_secrets::list),
        post  ("/api/v1/teams/{id}/webhook-secret", Needs(ManageWebhookSecrets), webhook_secrets::create),
        get   ("/api/v1/keys",                Needs(ManageKeys),   keys::list),
        post  ("/api/v1/keys",                Needs(ManageKeys),   keys::create),
        get   ("/api/v1/keys/{id}",           Needs(ManageKeys),   keys::get),
        delete("/api/v1/keys/{id}",           Needs(ManageKeys),   keys::revoke),
        get   ("/api/v1/audit",               Needs(ReadAudit),    audit::list),

        post  ("/v1/chat/completions",        Needs(CallModels),   openai::chat_completions),
        post  ("/v1/embeddings",              Needs(CallModels),   openai::embeddings),
        get   ("/v1/models",                  Needs(Enter),        openai::list_models),
        get   ("/v1/models/{*id}",            Needs(Enter),        openai::get_model),
    ]
}

pub fn router(app: App) -> Router {
    let mut router = Router::new();
    let entry = from_fn_with_state(app.clone(), enter);
    for route in routes() {
        let layer = AccessLayer {
            app: app.clone(),
            access: route.access,
            surface: Surface::of(route.path),
            method: route.method,
            route: route.path,
        };
        router = router.route(route.path, route.handler.route_layer(from_fn_with_state(layer, authorize)));
    }
    router.method_not_allowed_fallback(wrong_method).fallback(no_route).layer(entry).with_state(app)
}

pub(crate) struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
    handler: MethodRouter<App, Infallible>,
}

fn get<T: 'static>(path: &'static str, access: Access, handler: impl Handler<T, App>) -> Route {
    Route { method: "GET", path, access, handler: on(MethodFilter::GET, handler) }
}

fn post<T: 'static>(path: &'static str, access: Access, handler: impl Handler<T, App>) -> Route {
    Route { method: "POST", path, access, handler: on(MethodFilter::POST, handler) }
}

fn patch<T: 'static>(path: &'static str, access: Access, handler: impl Handler<T, App>) -> Route {
    Route { method: "PATCH", path, access, handler: on(MethodFilter::PATCH, handler) }
}

fn put<T: 'static>(path: &'static str, access: Access, handler: impl Handler<T, App>) -> Route {
    Route { method: "PUT", path, access, handler: on(MethodFilter::PUT, handler) }
}

fn delete<T: 'static>(path: &'static str, access: Access, handler: impl Handler<T, App>) -> Route {
    Route { method: "DELETE", path, access, handler: on(MethodFilter::DELETE, handler) }
}

/// The API's description as it is served.
pub(crate) static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::document(access_of));

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// Who may use a route, whose path is written as in documents.
pub(crate) fn access_of(method: &str, path: &str) -> Option<Access> {
    let is_it = |route: &Route| route.method == method && route.path.replace("{*", "{") == path;
    routes().into_iter().find(is_it).map(|route| route.access)
}

/// The route that a request takes.
#[cfg(test)]
pub(crate) fn taken(method: &str, path: &str) -> Option<&'static str> {
    let given: Vec<&str> = path.split('/').collect();
    listed()
        .filter(|(verb, _)| *verb == method)
        .map(|(_, route)| route)
        .filter(|route| is_of(route, &given))
        .min_by_key(|route| route.matches('{').count())
}

/// `METHOD PATH`, the path as documents write it: a parameter that takes slashes looks like any other.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    static ALL: LazyLock<Vec<(&str, &str)>> =
        LazyLock::new(|| routes().iter().map(|route| (route.method, route.path)).collect());
    ALL.iter().copied()
}

async fn no_route(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let shown: String = path.chars().take(128).collect();
    let mut detail = format!("There is no route {method} {shown:?}.");
    if let Some((verb, route)) = suggest::nearest(method.as_str(), path, listed()) {
        let route = route.replace("{*", "{");
        // Writing to a String never fails.
        let _ = write!(detail, " Did you mean {verb} {route}?");
        if route.starts_with("/v1/") && !path.starts_with("/v1/") {
            detail += " The base URL of an OpenAI SDK ends in /v1.";
        }
    }
    detail += " All routes are in /api/openapi.json.";
    Surface::of_request(path, request.headers()).refuse(Problem::new(Kind::NotFound, detail))
}

async fn wrong_method(method: Method, request: Request) -> Response {
    let path = request.uri().path();
    let given: Vec<&str> = path.split('/').collect();
    let takes: Vec<&str> = listed().filter(|(_, route)| is_of(route, &given)).map(|(verb, _)| verb).collect();
    let takes = takes.join(", ");
    let detail = format_args!("This path takes {takes}, not {method}; see /api/openapi.json.");
    let mut response =
        Surface::of_request(path, request.headers()).refuse(Problem::new(Kind::MethodNotAllowed, detail));
    if let Ok(takes) = HeaderValue::from_str(&takes) {
        response.headers_mut().insert(header::ALLOW, takes);
    }
    response
}

/// Whether a path is one of this route.
fn is_of(route: &str, given: &[&str]) -> bool {
    let template: Vec<&str> = route.split('/').collect();
    let takes_rest = template.last().is_some_and(|last| last.starts_with("{*"));
    let fits = template.len() == given.len() || takes_rest && given.len() > template.len();
    fits && template.iter().zip(given).all(|(template, segment)| template.starts_with('{') || template == segment)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::Role;

    use super::*;

    /// The golden table: a route without a line here fails, and so does a line whose roles change.
    #[test]
    fn routes_and_roles() {
        let mut table = String::new();
        for route in routes() {
            let who = match route.access {
                Open => "everyone".to_owned(),
                Needs(permission) => {
                    let roles = Role::ALL.into_iter().filter(|role| permission.is_held_by(*role));
                    roles
                        .map(|role| {
                            let all = if permission.reaches_all_teams(role) { "*" } else { "" };
                            format!("{}{all}", role.as_str())
                        })
                        .collect::<Vec<_>>()
                        .join(" ")
                }
            };
            writeln!(table, "{:6} {:26} {who}", route.method, route.path.replace("{*", "{")).unwrap();
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<_> = routes().into_iter().filter(|route| route.access == Open).map(|route| route.path).collect();
        assert_eq!(open, ["/livez", "/readyz", "/metrics"]);
    }

    /// The document names what the router has, and nothing else.
    #[test]
    fn the_document_and_the_router_agree() {
        let has = |route: &Route| format!("{} {}", route.method, route.path.replace("{*", "{"));
        let has: BTreeSet<String> = routes().iter().map(has).collect();
        assert_eq!(openapi::operations(), has);
    }
}
