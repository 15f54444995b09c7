//! `tollway check-config`.

use std::time::Duration;

use admission::catalog::{ActiveCatalog, ActiveRoute};
use clap::Args;
use domain::Endpoint;
use engine::{Connections, config::apply_catalog, host::hostname};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Common, Exit, Failure, Format, Outcome, local,
    output::{self, Align, line},
};
use crate::{
    config::{self, ConfigError, Loaded},
    descriptors,
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Also ask the database what the API declared, and every deployment for its models
    #[arg(long)]
    probe: bool,
}

#[derive(Debug, Serialize)]
struct Probe {
    what: String,
    is_fine: bool,
    said: String,
}

pub async fn run(args: CheckConfig, common: &Common) -> Outcome {
    let loaded = config::load(common.config.as_deref(), std::env::vars())?;
    let catalog =
        ActiveCatalog::build(0, loaded.config.catalog()).map_err(|error| Failure::new(Exit::Refused, error))?;
    // References that lead nowhere are found here, rather than when a gateway starts.
    match loaded.config.database_url() {
        Ok(_) | Err(ConfigError::NoDatabase) => {}
        Err(error) => return Err(error.into()),
    }
    match loaded.config.pepper() {
        Ok(_) | Err(ConfigError::NoPepper) => {}
        Err(error) => return Err(error.into()),
    }
    loaded.config.receivers()?;
    let probes = if args.probe { probe(&loaded, &catalog).await } else { Vec::new() };
    match common.output {
        Format::Json => output::json(&document(&loaded, &catalog, &probes))?,
        _ => show(&loaded, &catalog, &probes)?,
    }
    if probes.iter().all(|probe| probe.is_fine) { Ok(Exit::Done) } else { Ok(Exit::Unavailable) }
}

async fn probe(loaded: &Loaded, catalog: &ActiveCatalog) -> Vec<Probe> {
    let mut probes = vec![probe_database(loaded).await, probe_beside(loaded).await];
    let http = providers::HttpClients::new();
    let mut deployments: Vec<_> = catalog.deployments.values().collect();
    deployments.sort_by(|a, b| a.name.cmp(&b.name));
    for deployment in deployments {
        let (is_fine, said) = match providers::list_models(&http, &deployment.target, PROBE_TIMEOUT).await {
            Ok(Some(models)) if !models.contains(&deployment.spec.model) => {
                (true, format!("answers, but does not list the model {}", deployment.spec.model))
            }
            Ok(_) => (true, "answers".to_owned()),
            Err(error) => (false, error.message),
        };
        probes.push(Probe { what: format!("deployment {}", deployment.name), is_fine, said });
    }
    probes
}

async fn probe_database(loaded: &Loaded) -> Probe {
    let connect = async {
        let pools = local::connect(&loaded.config)?;
        drop(pools.api.acquire().await?);
        Ok::<_, Failure>(())
    };
    let (is_fine, said) = match tokio::time::timeout(PROBE_TIMEOUT, connect).await {
        Ok(Ok(())) => (true, "answers".to_owned()),
        Ok(Err(failure)) => (false, failure.message),
        Err(_) => (false, format!("did not answer within {PROBE_TIMEOUT:?}")),
    };
    Probe { what: "database".to_owned(), is_fine, said }
}

/// Whether the file can stand beside what the API declared: applied as at a start, and taken back.
async fn probe_beside(loaded: &Loaded) -> Probe {
    let apply = async {
        let pools = local::connect(&loaded.config)?;
        if !store::connect::is_migrated(&pools.api).await? {
            return Ok("not asked: the schema is not there yet, or not up to date");
        }
        let mut tx = pools.api.begin().await?;
        let applied = apply_catalog(&mut tx, &loaded.config.catalog(), &hostname()).await;
        tx.rollback().await?;
        applied.map_err(|error| Failure::new(Exit::Refused, error))?;
        Ok::<_, Failure>("fits")
    };
    let (is_fine, said) = match tokio::time::timeout(PROBE_TIMEOUT, apply).await {
        Ok(Ok(said)) => (true, said.to_owned()),
        Ok(Err(failure)) => (false, failure.message),
        Err(_) => (false, format!("was not told within {PROBE_TIMEOUT:?}")),
    };
    Probe { what: "beside the API's lanes and limits".to_owned(), is_fine, said }
}

fn show(loaded: &Loaded, catalog: &ActiveCatalog, probes: &[Probe]) -> std::io::Result<()> {
    let config = &loaded.config;
    match &loaded.file {
        Some(file) => line(format!("configuration  {}", file.display()))?,
        None => line("configuration  none; defaults and environment")?,
    }
    if !loaded.variables.is_empty() {
        line(format!("overridden by  {}", loaded.variables.join(", ")))?;
    }
    line(format!("listens on     {}", config.server.listen))?;
    let Connections { most, per_address } = connections(loaded);
    line(format!("connections    at most {most}, of one address {per_address}{}", fewer(loaded, most)))?;
    line(format!("database       {}", database(loaded)))?;
    line(format!("pepper         {}", pepper(loaded)))?;
    line(format!("lake           {}", config.lake_url()))?;
    line(format!("retention      {} days", config.retention.days))?;
    if !config.alerts.is_empty() {
        let receivers: Vec<&str> = config.alerts.keys().map(String::as_str).collect();
        line(format!("alerts         to {}", receivers.join(", ")))?;
    }
    let lanes: Vec<&str> = catalog.lanes.keys().map(domain::Lane::as_str).collect();
    line(format!("lanes          {}", lanes.join(", ")))?;
    line(format!("budgets        {}", config.budgets.len()))?;
    line(format!("teams          {}\n", catalog.teams.len()))?;
    let mut routes: Vec<_> = catalog.routes.values().collect();
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = routes.iter().map(|route| {
        let deployments: Vec<&str> = route.deployments.iter().map(|deployment| &*deployment.name).collect();
        let price = match (covers(route), route.spec.allow_unpriced) {
            (Covered::All, _) => "known",
            (Covered::Embeddings, true) => "known for embeddings; its chat calls are flagged unpriced",
            (Covered::Embeddings, false) => "known for embeddings; chat calls are refused (no price for output)",
            (Covered::Nothing, true) => "none; its calls are flagged unpriced",
            (Covered::Nothing, false) => "MISSING: calls are refused",
        };
        vec![route.name.to_string(), deployments.join(" → "), price.to_owned()]
    });
    let columns = ["route", "deployments", "price"].map(|name| (name, Align::Left));
    output::table(&columns, rows.collect(), "There are no routes: nobody can call a model.")?;
    for odd in &catalog.odd_prices {
        line(format!("WARN {odd}"))?;
    }
    for Probe { what, is_fine, said } in probes {
        line(format!("{} {what}: {said}", if *is_fine { "ok  " } else { "FAIL" }))?;
    }
    Ok(())
}

/// Which calls of a route have a price today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Covered {
    All,
    /// Input alone.
    Embeddings,
    Nothing,
}

fn covers(route: &ActiveRoute) -> Covered {
    let now = chrono::Utc::now();
    let all = |endpoint| route.deployments.iter().all(|deployment| deployment.is_priced(endpoint, now));
    match (all(Endpoint::ChatCompletions), all(Endpoint::Embeddings)) {
        (true, _) => Covered::All,
        (false, true) => Covered::Embeddings,
        (false, false) => Covered::Nothing,
    }
}

/// As this system allows them to the process that runs this command.
fn connections(loaded: &Loaded) -> Connections {
    let config = &loaded.config;
    descriptors::connections(config.settings().connections, config.pool_sizes(), descriptors::raise())
}

fn fewer(loaded: &Loaded, most: usize) -> String {
    match loaded.config.server.max_connections {
        wanted if most < wanted => format!(" (not {wanted}: it takes a higher `ulimit -n`)"),
        _ => String::new(),
    }
}

fn database(loaded: &Loaded) -> String {
    match &loaded.config.database.url {
        Some(reference) => reference.to_string(),
        None if std::env::var_os("DATABASE_URL").is_some() => "env:DATABASE_URL".to_owned(),
        None => "none; `tollway dev` brings one along, `tollway serve` needs one".to_owned(),
    }
}

fn pepper(loaded: &Loaded) -> String {
    match &loaded.config.secrets.pepper {
        Some(reference) => reference.to_string(),
        None => "none; `tollway dev` makes one, `tollway serve` needs one".to_owned(),
    }
}

fn document(loaded: &Loaded, catalog: &ActiveCatalog, probes: &[Probe]) -> Value {
    let mut routes: Vec<_> = catalog.routes.values().collect();
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    let Connections { most, per_address } = connections(loaded);
    json!({
        "file": loaded.file,
        "variables": loaded.variables,
        "listen": loaded.config.server.listen,
        "connections": { "most": most, "per_address": per_address },
        "database": database(loaded),
        "pepper": pepper(loaded),
        "lake": loaded.config.lake_url(),
        "retention_days": loaded.config.retention.days,
        "alerts": loaded.config.alerts.keys().collect::<Vec<_>>(),
        "lanes": catalog.lanes.keys().collect::<Vec<_>>(),
        "teams": catalog.teams.keys().collect::<Vec<_>>(),
        "budgets": loaded.config.budgets.keys().collect::<Vec<_>>(),
        "routes": routes.iter().map(|route| json!({
            "name": &*route.name,
            "deployments": route.spec.deployments,
            "is_priced": covers(route) == Covered::All,
            "is_priced_for_embeddings": covers(route) != Covered::Nothing,
            "allow_unpriced": route.spec.allow_unpriced,
        })).collect::<Vec<_>>(),
        "warnings": catalog.odd_prices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "probes": probes,
    })
}
