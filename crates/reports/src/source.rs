//! Where a report reads.

use std::{fs, io::ErrorKind, path::Path};

use chrono::NaiveDate;
use domain::manifest::{MANIFEST, Manifest};
use polars::{
    error::PolarsResult,
    lazy::dsl::{
        CastColumnsPolicy, DslBuilder, ExtraColumnsPolicy, MissingColumnsPolicy, ScanSources, UnifiedScanArgs,
    },
    prelude::{
        CloudScheme, DataType, Field, HiveOptions, LazyFrame, ParquetOptions, PlRefPath, PlSmallStr, Schema, TimeUnit,
        TimeZone, cloud::CloudOptions,
    },
};

use crate::{Behind, Freshness, ReportError, Result};

/// A lake: its place and the files that were live when its manifest was read.
#[derive(Debug, Clone)]
pub struct Source {
    place: String,
    manifest: Manifest,
    behind: Option<Behind>,
    settings: Vec<(String, String)>,
}

impl Source {
    /// `place` is an absolute path or `s3://bucket/prefix`, as `lake::LakeStore::url` gives it; a lake that nothing was exported
    /// to yet may have no manifest, and is empty. Credentials and endpoint of S3 come from the environment's `AWS_*`.
    pub fn new(place: impl Into<String>, manifest: Option<Manifest>) -> Self {
        Self {
            place: place.into().trim_end_matches('/').to_owned(),
            manifest: manifest.unwrap_or_default(),
            behind: None,
            settings: Vec::new(),
        }
    }

    /// Settings of the S3 client (such as `aws_endpoint_url`) that win over the environment.
    pub fn with_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.settings = settings.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// What the ledger has of the report's days and the lake has not.
    pub fn with_behind(mut self, behind: Option<Behind>) -> Self {
        self.behind = behind;
        self
    }

    /// A lake in a local folder. A folder without a manifest is no lake.
    pub fn folder(path: &Path) -> Result<Self> {
        let failed = |reason: String| ReportError::Source { place: path.join(MANIFEST).display().to_string(), reason };
        let manifest = match fs::read(path.join(MANIFEST)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(ReportError::NoLake { place: path.display().to_string() });
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let place = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
        Ok(Self::new(place.display().to_string(), Some(manifest)))
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether both list the same files.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.manifest == other.manifest
    }

    pub(crate) fn freshness(&self) -> Freshness {
        Freshness::new(&self.manifest, self.behind)
    }

    /// How many live files the days `from..=to` have.
    pub(crate) fn files(&self, from: NaiveDate, to: NaiveDate) -> usize {
        self.manifest.between(from, to).count()
    }

    /// The rows of these days, as far as these columns. `None` when there is no file.
    pub(crate) fn scan(&self, from: NaiveDate, to: NaiveDate, columns: &[&str]) -> Result<Option<LazyFrame>> {
        let paths: Vec<PlRefPath> = self
            .manifest
            .between(from, to)
            .map(|file| PlRefPath::new(format!("{}/{}", self.place, file.name)))
            .collect();
        if paths.is_empty() {
            return Ok(None);
        }
        // By name and type, so that files of older and of newer versions, with fewer and with more columns, are read alike.
        let field = |name: &&str| Ok(Field::new(PlSmallStr::from_str(name), data_type(name)?));
        let schema: Schema = columns.iter().map(field).collect::<PolarsResult<_>>()?;
        let options = ParquetOptions { schema: Some(schema.into()), ..ParquetOptions::default() };
        let arguments = UnifiedScanArgs {
            cloud_options: self.cloud()?,
            // Paths are not patterns, and their key=value parts above the lake are none of our columns.
            glob: false,
            hive_options: HiveOptions::new_disabled(),
            cast_columns_policy: CastColumnsPolicy::ERROR_ON_MISMATCH,
            missing_columns_policy: MissingColumnsPolicy::Insert,
            extra_columns_policy: ExtraColumnsPolicy::Ignore,
            ..UnifiedScanArgs::default()
        };
        let plan = DslBuilder::scan_parquet(ScanSources::Paths(paths.into()), options, arguments)?;
        Ok(Some(plan.build().into()))
    }

    fn cloud(&self) -> Result<Option<CloudOptions>> {
        if !self.place.contains("://") {
            return Ok(None);
        }
        let mut settings = self.settings.clone();
        let given = settings.iter().find(|(key, _)| key.contains("endpoint")).map(|(_, value)| value.clone());
        let from_environment = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|name| std::env::var(name).ok())
        };
        if given.or_else(from_environment).is_some_and(|endpoint| endpoint.starts_with("http://")) {
            settings.push(("aws_allow_http".to_owned(), "true".to_owned()));
        }
        Ok(Some(CloudOptions::from_untyped_config(Some(CloudScheme::S3), settings)?))
    }
}

/// The lake's columns as polars names their types: see the documentation of the crate `lake`.
fn data_type(column: &str) -> PolarsResult<DataType> {
    Ok(match column {
        // What polars calls a Parquet time that is UTC depends on how it was built; it decides so here, too.
        "completed_at" => DataType::Datetime(TimeUnit::Microseconds, TimeZone::opt_try_new(Some("+00:00"))?),
        "is_final" => DataType::Boolean,
        "list_cost" | "contracted_cost" => DataType::Decimal(18, 12),
        "input_uncached" | "cache_read" | "cache_write_5m" | "cache_write_1h" | "input_audio" | "input_image"
        | "output_text" | "output_reasoning" | "output_audio" => DataType::Int64,
        _ => DataType::String,
    })
}
