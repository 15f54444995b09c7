//! `/metrics`: Prometheus's text. Labels are few and bounded: no ids, no keys, no paths.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::App;

const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

/// Every metric of every crate, with its description.
const METRICS: [Metric; 10] = [
    metric("tollway_http_requests_total", Kind::Counter, "HTTP requests by method, route and class of status."),
    metric(
        "tollway_http_request_seconds",
        Kind::Histogram,
        "Time from the head of an HTTP request to the head of its answer, by method and route.",
    ),
    metric("tollway_claimed_total", Kind::Counter, "Requests of jobs that this process claimed from the queue."),
    metric("tollway_claim_duration_seconds", Kind::Histogram, "Duration of one claim transaction."),
    metric("tollway_settle_batch", Kind::Histogram, "Requests whose results one settle transaction stored together."),
    metric("tollway_settle_duration_seconds", Kind::Histogram, "Duration of storing one batch, retries included."),
    metric("tollway_sign_ins_failed_total", Kind::Counter, "API keys that were refused, by reason."),
    metric(
        "tollway_stale_writes_total",
        Kind::Counter,
        "Results that came after their lease was lost; each was booked as a correction and stored nothing.",
    ),
    metric(
        "tollway_refused_writes_total",
        Kind::Counter,
        "Results that the database refused to store as they were; each was stored again with less in it.",
    ),
    metric(
        "tollway_deployment_adapted_slots",
        Kind::Gauge,
        "Calls at once that this process sends to a deployment that throttles; infinite when it does not.",
    ),
];

const fn metric(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Makes the process's recorder; once per process, before anything counts.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    for Metric { name, kind, help } in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
}

/// Folds recorded samples into buckets periodically; without a scraper they would pile up.
pub async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        handle.run_upkeep();
    }
}

/// OpenMetrics for scrapers that ask for it, else Prometheus's own format.
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let text = app.metrics.render();
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/openmetrics-text") {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], open_metrics(&text)).into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    }
}

/// OpenMetrics names the family of a counter without the `_total` of its samples, has no blank lines, and says where it ends.
fn open_metrics(text: &str) -> String {
    let is_counter = |name: &str| METRICS.iter().any(|metric| metric.name == name && metric.kind == Kind::Counter);
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if is_counter(name) => {
                let family = name.trim_end_matches("_total");
                out.push_str(&format!("# {what} {family} {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    /// What `/metrics` says after each metric was used, some of them with labels that have to be escaped.
    fn rendered() -> String {
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        let recorder = builder.unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for Metric { name, kind, .. } in METRICS {
                for label in ["plain", "with \"quotes\", \\ and\na line"] {
                    match kind {
                        Kind::Counter => metrics::counter!(name, "label" => label).increment(3),
                        Kind::Gauge => metrics::gauge!(name, "label" => label).set(f64::INFINITY),
                        Kind::Histogram => metrics::histogram!(name, "label" => label).record(0.02),
                    }
                }
            }
        });
        recorder.handle().render()
    }

    /// The families of a document with their types, read as strictly as `promtool check metrics` does.
    fn parse(text: &str, is_open: bool) -> BTreeMap<String, String> {
        let mut families: BTreeMap<String, String> = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut series = BTreeSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                assert!(!help.trim().is_empty(), "{name} has no help text");
                assert!(helped.insert(name.to_owned()), "{name} is described twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name), "{name} has no help text before its type");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
                assert_eq!(name.ends_with("_total"), kind == "counter" && !is_open, "{name} is a {kind}");
                current = name.to_owned();
            } else if !line.is_empty() && line != "# EOF" {
                let (name, value) = (line.split(['{', ' ']).next().unwrap(), line.rsplit(' ').next().unwrap());
                let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is not of {current}"));
                let allowed: &[&str] = match families[&current].as_str() {
                    "counter" if is_open => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "summary" => &["", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(allowed.contains(&suffix), "{line} is no sample of {current}");
                assert!(value.parse::<f64>().is_ok(), "{line} has no number");
                assert!(series.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "{line} comes twice");
            }
        }
        families
    }

    #[test]
    fn every_metric_has_a_help_text_and_a_type() {
        let families = parse(&rendered(), false);
        let names: BTreeSet<&str> = families.keys().map(String::as_str).collect();
        assert_eq!(names, METRICS.iter().map(|metric| metric.name).collect());
        for Metric { name, kind, help } in METRICS {
            assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
            let expected: &[&str] = match kind {
                Kind::Counter => &["counter"],
                Kind::Gauge => &["gauge"],
                // Without buckets it is shown by its quantiles.
                Kind::Histogram => &["histogram", "summary"],
            };
            assert!(expected.contains(&families[name].as_str()), "{name}");
        }
    }

    #[test]
    fn open_metrics_are_what_the_standard_says() {
        let text = open_metrics(&rendered());
        assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"), "{text}");
        let families = parse(&text, true);
        assert_eq!(families["tollway_claimed"], "counter");
        assert!(text.contains("\ntollway_claimed_total{label=\"plain\"} 3\n"), "{text}");
        assert_eq!(families.len(), METRICS.len());
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }

    /// A metric is made where it is counted, in any crate, and described here: nothing but the source has all names.
    #[test]
    fn no_metric_of_any_crate_is_undescribed() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = Vec::new();
        sources(crates, &mut files);
        let mut used = BTreeSet::new();
        for file in files.iter().filter(|file| !file.ends_with("gateway/src/telemetry.rs")) {
            let text = fs::read_to_string(file).unwrap();
            for macro_name in ["counter!(", "gauge!(", "histogram!("] {
                for (at, _) in text.match_indices(macro_name) {
                    let name = text[at + macro_name.len()..].trim_start().strip_prefix('"');
                    used.extend(name.and_then(|name| name.split('"').next()).map(str::to_owned));
                }
            }
        }
        let described: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(used, described, "used and described metrics differ");
    }
}
