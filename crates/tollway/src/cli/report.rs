//! `tollway report …`: computed here, from the lake's Parquet files. Gateways run it as a child process for their API.

use std::{io::Write, path::PathBuf};

use chrono::{Datelike, NaiveDate, Utc};
use clap::{Args, Subcommand};
use lake::LakeStore;
use reports::{Dimension, Filter, ReportError, Source, SpendQuery};

use super::{Common, Exit, Failure, Format, Outcome, local};

#[derive(Debug, Subcommand)]
pub enum Report {
    /// What was spent, by team, feature, model and other dimensions
    Spend(Spend),
}

#[derive(Debug, Args)]
pub struct Spend {
    /// team, feature, model, provider, lane, day, month, …; several with commas
    #[arg(long, value_name = "DIMENSIONS", default_value = "", hide_default_value = true)]
    by: String,
    /// The first day, UTC; the first of this month when left out
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// The last day, UTC; today when left out
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// Of this team only
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Only where DIMENSION=VALUE[,VALUE]; may be given again
    #[arg(long = "where", value_name = "FILTER")]
    filters: Vec<String>,
    /// Not the configured lake, but this folder or s3://…
    #[arg(long, value_name = "LAKE")]
    lake: Option<String>,
    /// Instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(args: Report, common: &Common) -> Outcome {
    let Report::Spend(args) = args;
    let url = match &args.lake {
        Some(url) => url.clone(),
        None => local::load(common)?.config.lake_url(),
    };
    let today = Utc::now().date_naive();
    let to = args.to.unwrap_or(today);
    let from = args.from.unwrap_or_else(|| to.with_day(1).unwrap_or(to));
    let by = Dimension::parse_list(&args.by).map_err(failed)?;
    let mut filters =
        args.filters.iter().map(|text| text.parse()).collect::<Result<Vec<Filter>, _>>().map_err(failed)?;
    filters.extend(args.team.map(|team| Filter { dimension: Dimension::Team, values: vec![team] }));
    let query = SpendQuery { by, from, to, filters };

    let store = LakeStore::open(&url).map_err(|error| Failure::new(Exit::Failed, error))?;
    let manifest = store.manifest().await.map_err(|error| Failure::new(Exit::Failed, error))?;
    let source = Source::new(store.url(), manifest);
    let format = match common.output {
        Format::Human => reports::Format::Table,
        Format::Json => reports::Format::Json,
        Format::Csv => reports::Format::Csv,
        Format::Parquet => reports::Format::Parquet,
    };
    let out = args.out;
    // polars blocks, and works on all cores.
    let made = tokio::task::spawn_blocking(move || -> Outcome<()> {
        let report = reports::spend(&source, &query).map_err(failed)?;
        match out {
            Some(path) => {
                let cannot =
                    |error| Failure::new(Exit::Failed, format_args!("cannot write {}: {error}", path.display()));
                let mut file = std::fs::File::create(&path).map_err(cannot)?;
                reports::render(&report, format, &mut file).map_err(failed)
            }
            None => {
                let mut out = std::io::stdout().lock();
                reports::render(&report, format, &mut out).map_err(failed)?;
                Ok(out.flush()?)
            }
        }
    });
    made.await.map_err(|error| Failure::new(Exit::Failed, format_args!("the report broke off: {error}")))??;
    Ok(Exit::Done)
}

fn failed(error: ReportError) -> Failure {
    match error {
        ReportError::Write(error) => error.into(),
        // A compaction came between; the next run reads its new files.
        error @ ReportError::Lake(_) => Failure::new(Exit::Unavailable, error),
        error @ ReportError::Source { .. } => Failure::new(Exit::Failed, error),
        mistaken => Failure::usage(mistaken),
    }
}
