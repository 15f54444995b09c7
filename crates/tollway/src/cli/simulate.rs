//! `tollway simulate`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use simulator::{Config, Latency};
use tokio::net::TcpListener;

use super::{
    Common, Exit, Failure, Format, Outcome,
    output::{self, line},
};
use crate::shutdown;

#[derive(Debug, Args)]
pub struct Simulate {
    /// Port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    listen: SocketAddr,
    /// How it behaves: TOML or JSON as in /sim/config; flags win
    #[arg(long, value_name = "FILE")]
    behaviour: Option<PathBuf>,
    /// Time until the answer begins; with --p99-ms the median
    #[arg(long, value_name = "MS")]
    latency_ms: Option<f64>,
    /// One answer in a hundred takes longer
    #[arg(long, value_name = "MS", requires = "latency_ms")]
    p99_ms: Option<f64>,
    /// Completion tokens of an answer
    #[arg(long, value_name = "N")]
    answer_tokens: Option<u64>,
    /// Bytes of an answer's body
    #[arg(long, value_name = "N")]
    answer_bytes: Option<usize>,
    /// Floats in a vector
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Share of calls answered with 500, 0 to 1
    #[arg(long, value_name = "SHARE")]
    error_rate: Option<f64>,
    /// Share of calls answered with broken JSON
    #[arg(long, value_name = "SHARE")]
    garbage_rate: Option<f64>,
    /// Share of calls whose answer stops in the middle
    #[arg(long, value_name = "SHARE")]
    cut_rate: Option<f64>,
    /// Share of calls that are never answered
    #[arg(long, value_name = "SHARE")]
    hang_rate: Option<f64>,
    /// Calls a minute beyond which 429 is answered
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Seed of the random numbers
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A file to which the journal of all calls is appended
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

pub async fn run(args: Simulate, common: &Common) -> Outcome {
    let listen = args.listen;
    let config = configure(args)?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::new(Exit::Refused, format_args!("cannot listen on {listen}: {error}")))?;
    let url = format!("http://{}", listener.local_addr()?);
    match common.output {
        Format::Json => output::json(&json!({ "url": url, "base_url": format!("{url}/v1") }))?,
        _ => line(banner(&url))?,
    }
    let stop = shutdown::on_signal()?;
    simulator::serve(listener, config, stop.cancelled_owned()).await?;
    Ok(Exit::Done)
}

/// The behaviour in a file, JSON when its name ends so.
pub fn read_behaviour(path: &Path) -> Outcome<Config> {
    let refused = |error: String| Failure::new(Exit::Refused, format_args!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    if path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_str(&text).map_err(|error| refused(error.to_string()));
    }
    toml::from_str(&text).map_err(|error| refused(error.to_string()))
}

fn configure(args: Simulate) -> Outcome<Config> {
    let mut config = match &args.behaviour {
        Some(path) => read_behaviour(path)?,
        None => Config::default(),
    };
    match (args.latency_ms, args.p99_ms) {
        (Some(ms), None) => config.latency = Latency::Fixed { ms },
        (Some(p50_ms), Some(p99_ms)) => config.latency = Latency::Lognormal { p50_ms, p99_ms },
        _ => {}
    }
    fn set<T>(field: &mut T, flag: Option<T>) {
        if let Some(value) = flag {
            *field = value;
        }
    }
    set(&mut config.answer_tokens, args.answer_tokens);
    set(&mut config.answer_bytes, args.answer_bytes.map(Some));
    set(&mut config.embedding_dimensions, args.dimensions);
    set(&mut config.error_rate, args.error_rate);
    set(&mut config.garbage_rate, args.garbage_rate);
    set(&mut config.cut_rate, args.cut_rate);
    set(&mut config.hang_rate, args.hang_rate);
    set(&mut config.rpm, args.rpm.map(Some));
    set(&mut config.seed, args.seed);
    set(&mut config.journal_path, args.journal.map(Some));
    config.check().map_err(Failure::usage)?;
    Ok(config)
}

fn banner(url: &str) -> String {
    format!(
        "A simulated provider answers at {url}/v1
  other deployments, each with its own behaviour: {url}/d/NAME/v1

Steer it while it runs:
  curl {url}/sim/config
  curl -X PATCH {url}/sim/config -d '{{\"error_rate\": 0.1}}'
  curl {url}/sim/outage -d '{{\"status\": 529, \"for_ms\": 30000}}'
  curl {url}/sim/stats
  curl {url}/sim/journal
  curl -X POST {url}/sim/reset

Ctrl-C stops it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_is_read_from_toml_and_json() {
        let dir = tempfile::tempdir().unwrap();
        let (toml, json) = (dir.path().join("b.toml"), dir.path().join("b.json"));
        std::fs::write(&toml, "error_rate = 0.5\n[latency]\nkind = 'fixed'\nms = 3\n[deployments.slow]\nrpm = 2\n")
            .unwrap();
        std::fs::write(
            &json,
            r#"{"error_rate":0.5,"latency":{"kind":"fixed","ms":3},"deployments":{"slow":{"rpm":2}}}"#,
        )
        .unwrap();
        assert_eq!(read_behaviour(&toml).unwrap(), read_behaviour(&json).unwrap());
        std::fs::write(&toml, "eror_rate = 0.5\n").unwrap();
        let failure = read_behaviour(&toml).unwrap_err();
        assert!(failure.exit == Exit::Refused && failure.message.contains("eror_rate"), "{failure:?}");
    }
}
