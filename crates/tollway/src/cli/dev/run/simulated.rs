//! A provider for a developer who has none yet.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use domain::{
    Deployment, Route,
    catalog::{OwnPrice, ProviderKind},
};
use serde_json::json;
use simulator::Latency;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Failure, Outcome, read_behaviour},
    config::Config,
};

/// Where a developer may expect it; any other port when that one is taken.
const USUAL: &str = "127.0.0.1:8788";
const PROVIDER: &str = "simulator";
const CHAT: &str = "gpt-sim";
const EMBEDDINGS: &str = "embed-sim";
const SAMPLE_REQUESTS: usize = 100;

/// Starts the simulator when no deployment is configured, and adds what leads to it. Gives its URL.
pub async fn start(config: &mut Config, behaviour: Option<&Path>, stop: CancellationToken) -> Outcome<Option<String>> {
    if !config.deployments.is_empty() {
        if behaviour.is_some() {
            return Err(Failure::usage(
                "--simulator has no effect: deployments are configured. `tollway simulate` runs a simulator beside them",
            ));
        }
        return Ok(None);
    }
    let behaviour = match behaviour {
        Some(path) => read_behaviour(path)?,
        None => lifelike(),
    };
    behaviour.check().map_err(|error| Failure::usage(format_args!("--simulator: {error}")))?;
    let listener = match TcpListener::bind(USUAL).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind("127.0.0.1:0").await?,
    };
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        if let Err(error) = simulator::serve(listener, behaviour, stop.cancelled_owned()).await {
            tracing::error!(%error, "The simulated provider ended");
        }
    });
    declare(config, &url);
    Ok(Some(url))
}

fn lifelike() -> simulator::Config {
    simulator::Config {
        latency: Latency::Lognormal { p50_ms: 40.0, p99_ms: 200.0 },
        stream_pace_ms: 20.0,
        models: vec![CHAT.into(), EMBEDDINGS.into()],
        ..simulator::Config::default()
    }
}

fn declare(config: &mut Config, url: &str) {
    for (model, input, output) in [(CHAT, "0.15", Some("0.60")), (EMBEDDINGS, "0.02", None)] {
        let deployment = Deployment {
            kind: ProviderKind::Openai,
            provider: Some(PROVIDER.to_owned()),
            base_url: format!("{url}/d/{model}/v1"),
            model: model.to_owned(),
            credential: None,
            slots: None,
            rpm: None,
            tpm: None,
            max_output_tokens: None,
            connect_timeout_ms: 5_000,
            read_timeout_ms: 60_000,
            total_timeout_ms: 600_000,
            max_event_mb: 16,
            max_answer_mb: 64,
            billing_account: None,
            provider_project: None,
            region: None,
        };
        config.deployments.insert(model.to_owned(), deployment);
        config
            .routes
            .entry(model.to_owned())
            .or_insert_with(|| Route { deployments: vec![model.to_owned()], allow_unpriced: false });
        config.prices.push(OwnPrice {
            provider: PROVIDER.to_owned(),
            model: model.to_owned(),
            free: false,
            input: Some(input.to_owned()),
            output: output.map(str::to_owned),
            cache_read: None,
            cache_write: None,
            from: None,
        });
    }
}

/// A first job to submit.
pub fn write_sample(data: &Path) -> anyhow::Result<PathBuf> {
    let path = data.join("hello.jsonl");
    let mut lines = String::new();
    for n in 1..=SAMPLE_REQUESTS {
        let request = json!({
            "custom_id": format!("hello-{n}"),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": { "model": CHAT, "messages": [{ "role": "user", "content": format!("Say hello to number {n}.") }] },
        });
        writeln!(lines, "{request}")?;
    }
    std::fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use domain::Endpoint;

    use super::*;

    #[test]
    fn what_is_declared_makes_a_priced_catalog() {
        let mut config = Config::default();
        declare(&mut config, "http://127.0.0.1:8788");
        let catalog = admission::catalog::ActiveCatalog::build(1, config.catalog()).unwrap();
        let now = chrono::Utc::now();
        for (model, endpoint) in [(CHAT, Endpoint::ChatCompletions), (EMBEDDINGS, Endpoint::Embeddings)] {
            assert!(catalog.route(model).unwrap().is_priced(endpoint, now), "{model}");
        }
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap().catalog(), config.catalog());
    }

    #[test]
    fn every_line_of_the_sample_is_a_request() {
        let dir = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(write_sample(dir.path()).unwrap()).unwrap();
        assert_eq!(
            text.lines().filter(|line| wire::RequestLine::parse(line.as_bytes()).is_ok()).count(),
            SAMPLE_REQUESTS
        );
    }
}
