//! A path that no route takes: which one was meant. Most often a base URL lacks its `/v1`, or has it twice.

use std::cmp::Reverse;

/// Of 1: below this a path is another word, not a slip of the pen.
const SIMILAR: f64 = 0.9;

/// The route that `method` and `path` most likely mean, as `POST /v1/chat/completions`.
pub fn nearest<'r>(
    method: &str,
    path: &str,
    routes: impl Iterator<Item = (&'r str, &'r str)> + Clone,
) -> Option<(&'r str, &'r str)> {
    let path = path.to_ascii_lowercase();
    let given: Vec<&str> = segments(&path).collect();
    let by_tail = routes
        .clone()
        .filter_map(|(verb, route)| {
            let length = tail_length(route, &given)?;
            Some((verb, route, length))
        })
        .max_by_key(|(verb, route, length)| (*length, *verb == method, Reverse(route.len())));
    if let Some((verb, route, _)) = by_tail {
        return Some((verb, route));
    }
    let whole = given.join("/");
    routes
        .map(|(verb, route)| (strsim::jaro_winkler(&whole, route.trim_start_matches('/')), verb == method, verb, route))
        .filter(|(similar, ..)| *similar >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .map(|(_, _, verb, route)| (verb, route))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// How many segments of a route behind its version the path ends with; `None`: it does not end with all of them.
fn tail_length(route: &str, given: &[&str]) -> Option<usize> {
    let all: Vec<&str> = segments(route).collect();
    let tail = match all.as_slice() {
        ["api", "v1", tail @ ..] | ["v1", tail @ ..] => tail,
        other => other,
    };
    let begins = given.len().checked_sub(tail.len())?;
    let is_like = |(template, segment): (&&str, &&str)| template.starts_with('{') || template == segment;
    (!tail.is_empty() && tail.iter().zip(&given[begins..]).all(is_like)).then_some(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: [(&str, &str); 8] = [
        ("GET", "/livez"),
        ("POST", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/{id}"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{*id}"),
    ];

    #[test]
    fn the_route_that_was_meant_is_found() {
        for (method, path, meant) in [
            ("POST", "/chat/completions", "POST /v1/chat/completions"),
            ("POST", "/v1/v1/chat/completions", "POST /v1/chat/completions"),
            ("POST", "//v1/chat/completions/", "POST /v1/chat/completions"),
            ("POST", "/V1/Chat/Completions", "POST /v1/chat/completions"),
            ("POST", "/openai/deployments/gpt-5/chat/completions", "POST /v1/chat/completions"),
            ("POST", "/v1/chat/completion", "POST /v1/chat/completions"),
            ("POST", "/v1/embedding", "POST /v1/embeddings"),
            ("POST", "/v1/engines/ada/embeddings", "POST /v1/embeddings"),
            ("GET", "/models", "GET /v1/models"),
            ("GET", "/models/own", "GET /v1/models/{*id}"),
            ("GET", "/jobs", "GET /api/v1/jobs"),
            ("POST", "/v1/jobs", "POST /api/v1/jobs"),
            ("GET", "/api/jobs/job_0000000000001", "GET /api/v1/jobs/{id}"),
        ] {
            let found = nearest(method, path, ROUTES.into_iter()).map(|(verb, route)| format!("{verb} {route}"));
            assert_eq!(found.as_deref(), Some(meant), "{method} {path}");
        }
        for path in ["/", "/favicon.ico", "/wp-admin/setup.php", "/v1"] {
            assert_eq!(nearest("GET", path, ROUTES.into_iter()), None, "{path}");
        }
    }
}
