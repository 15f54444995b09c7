//! `tollway report …`: computed here, from the lake's Parquet files. Gateways run it as a child process for their API.

use std::{io::Write, path::PathBuf, time::Duration};

use chrono::{Datelike, NaiveDate, Utc};
use clap::{Args, Subcommand};
use lake::{LakeError, LakeStore};
use reports::{Behind, Dimension, Filter, ReportError, Source, SpendQuery, SpendReport};
use store::export_segment::{self, Unexported};

use super::{Common, Exit, Failure, Format, Outcome, local, output};
use crate::config::Config;

/// How long a report waits for the database that says what the lake lacks.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);
/// A compaction seals one day after another, each with a manifest of its own.
const MOST_TRIES: u32 = 5;

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
    /// Only where DIMENSION=VALUE[,VALUE]; may be repeated
    #[arg(long = "where", value_name = "FILTER")]
    filters: Vec<String>,
    /// Read this folder or s3://… instead of the configured lake
    #[arg(long, value_name = "LAKE")]
    lake: Option<String>,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(args: Report, common: &Common) -> Outcome {
    let Report::Spend(args) = args;
    let today = Utc::now().date_naive();
    let to = args.to.unwrap_or(today);
    let from = args.from.unwrap_or_else(|| to.with_day(1).unwrap_or(to));
    let by = Dimension::parse_list(&args.by).map_err(failed)?;
    let mut filters =
        args.filters.iter().map(|text| text.parse()).collect::<Result<Vec<Filter>, _>>().map_err(failed)?;
    filters.extend(args.team.map(|team| Filter { dimension: Dimension::Team, values: vec![team] }));
    let query = SpendQuery { by, from, to, filters };

    let lake = Lake::open(args.lake, common, &query).await?;
    let format = match common.output {
        Format::Human => reports::Format::Table,
        Format::Json => reports::Format::Json,
        Format::Csv => reports::Format::Csv,
        Format::Parquet => reports::Format::Parquet,
    };
    let report = compute(&lake, query).await?;
    match args.out {
        Some(path) => {
            let cannot = |error| Failure::new(Exit::Failed, format_args!("cannot write {}: {error}", path.display()));
            let mut file = std::fs::File::create(&path).map_err(cannot)?;
            reports::render(&report, format, &mut file).map_err(failed)?;
        }
        None => {
            let mut out = std::io::stdout().lock();
            reports::render(&report, format, &mut out).map_err(failed)?;
            out.flush()?;
        }
    }
    // These two have no place for it.
    if matches!(common.output, Format::Csv | Format::Parquet) {
        output::note(report.lake.sentence());
    }
    Ok(Exit::Done)
}

/// Where the report reads, and what the ledger has beyond it.
struct Lake {
    /// `None`: nothing was exported yet, and nothing is there.
    store: Option<LakeStore>,
    place: String,
    behind: Option<Behind>,
}

/// What the database says of the ledger.
struct Ledger {
    behind: Behind,
    any_published: bool,
}

impl Lake {
    /// A place without a manifest is an error, except where the ledger says that nothing was exported yet.
    async fn open(given: Option<String>, common: &Common, query: &SpendQuery) -> Outcome<Self> {
        let config = match local::load(common) {
            Ok(loaded) => Some(loaded.config),
            // A lake that is named needs no configuration.
            Err(_) if given.is_some() => None,
            Err(failure) => return Err(failure),
        };
        let own = config.as_ref().map(Config::lake_url);
        let url = given.as_ref().or(own.as_ref()).cloned().unwrap_or_default();
        let store = LakeStore::find(&url).map_err(cannot)?;
        let is_own = match (&own, &store) {
            _ if given.is_none() => true,
            (Some(own), Some(store)) => LakeStore::find(own).ok().flatten().is_some_and(|own| own.url() == store.url()),
            _ => false,
        };
        // The ledger first: a row that is exported in between counts as missing rather than as present.
        let ledger = match config.filter(|_| is_own) {
            Some(config) => ask_ledger(&config, query).await,
            None => None,
        };
        let has_manifest = match &store {
            Some(store) => store.manifest().await.map_err(cannot)?.is_some(),
            None => false,
        };
        let place = store.as_ref().map_or(url, |store| store.url().to_owned());
        let behind = ledger.as_ref().map(|ledger| ledger.behind);
        match ledger {
            _ if has_manifest => Ok(Self { store, place, behind }),
            Some(ledger) if !ledger.any_published => Ok(Self { store: None, place, behind }),
            Some(_) => Err(Failure::new(Exit::Unavailable, ReportError::NoLake { place }).hint(
                "Segments of the ledger were published there: see [lake] url, or `tollway lake export --again`.",
            )),
            None => Err(failed(ReportError::NoLake { place })),
        }
    }

    async fn source(&self) -> Outcome<Source> {
        let manifest = match &self.store {
            Some(store) => store.manifest().await.map_err(cannot)?,
            None => None,
        };
        Ok(Source::new(&self.place, manifest).with_behind(self.behind))
    }
}

fn cannot(error: LakeError) -> Failure {
    let exit = match &error {
        LakeError::Storage(_) => Exit::Unavailable,
        LakeError::BadUrl { .. } => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// `None`: there is no database, or none that answers; the report is made all the same.
async fn ask_ledger(config: &Config, query: &SpendQuery) -> Option<Ledger> {
    let pools = local::connect(config).ok()?;
    let ask = async {
        let mut conn = pools.work.acquire().await?;
        let Unexported { rows, since } = export_segment::unexported(&mut conn, query.from, query.to).await?;
        let any_published = export_segment::any_published(&mut conn).await?;
        Ok::<_, store::Error>(Ledger { behind: Behind { rows, since }, any_published })
    };
    tokio::time::timeout(LEDGER_TIMEOUT, ask).await.ok()?.ok()
}

/// A compaction in between takes files away that the manifest had: then the report is made again, from the new manifest.
async fn compute(lake: &Lake, query: SpendQuery) -> Outcome<SpendReport> {
    let mut source = lake.source().await?;
    let mut tries = 1;
    loop {
        let (from, asked) = (source.clone(), query.clone());
        // polars blocks, and works on all cores.
        let made = tokio::task::spawn_blocking(move || reports::spend(&from, &asked));
        let broke_off = |error| Failure::new(Exit::Failed, format_args!("the report broke off: {error}"));
        match made.await.map_err(broke_off)? {
            Err(error @ ReportError::Lake(_)) => {
                let newer = lake.source().await?;
                if tries == MOST_TRIES || newer.is_same_state(&source) {
                    return Err(failed(error));
                }
                (source, tries) = (newer, tries + 1);
            }
            made => return made.map_err(failed),
        }
    }
}

fn failed(error: ReportError) -> Failure {
    match error {
        ReportError::Write(error) => error.into(),
        // A compaction came between; the next run reads its new files.
        error @ ReportError::Lake(_) => Failure::new(Exit::Unavailable, error),
        error @ ReportError::Source { .. } => Failure::new(Exit::Failed, error),
        error @ ReportError::NoLake { .. } => Failure::new(Exit::NotFound, error),
        mistaken => Failure::usage(mistaken),
    }
}
