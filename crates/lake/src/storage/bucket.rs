//! A lake in an S3 bucket. Objects are created conditionally (`If-None-Match`), the manifest is replaced conditionally
//! (`If-Match`). Where a store cannot do that, `AWS_CONDITIONAL_PUT=disabled` leaves it to the lock in Postgres alone.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use domain::manifest::{MANIFEST, Manifest};
use futures::TryStreamExt;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncSeekExt, AsyncWriteExt},
    task::spawn_blocking,
};

use super::{PutOutcome, parse, to_bytes};
use crate::{LakeError, Result};

/// Larger files go up in parts of this size.
const PART: usize = 8 << 20;
/// Others may replace the manifest between our reading and our writing it this often.
const MOST_TRIES: u32 = 10;
/// A conditional PUT whose answer was lost must not be repeated blindly, so object_store leaves that to us.
const MOST_FAILURES: u32 = 3;

#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Bucket {
    pub fn open<K: AsRef<str>, V: Into<String>>(
        url: &str,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, String> {
        let (bucket, prefix) = match url.split_once("://").map(|(_, rest)| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((bucket, prefix)) if !bucket.is_empty() => (bucket, prefix),
            _ => return Err("it names no bucket".to_owned()),
        };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (key, value) in settings {
            let key: AmazonS3ConfigKey = key.as_ref().parse().map_err(|error: Error| error.to_string())?;
            builder = builder.with_config(key, value);
        }
        let endpoint = builder
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
        if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
            builder = builder.with_allow_http(true);
        }
        // An export that fails is repeated by its chore, and a person who waits wants to know.
        let retry = RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        let store = builder.with_retry(retry).build().map_err(|error| error.to_string())?;
        let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
        Ok(Self { store: Arc::new(store), prefix })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// The manifest and its version; `None` when there is none.
    pub async fn manifest(&self) -> Result<Option<(Manifest, UpdateVersion)>> {
        let found = match self.store.get(&self.path(MANIFEST)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::Storage(error)),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(LakeError::Storage)?;
        Ok(Some((parse(MANIFEST, &bytes)?, version)))
    }

    pub async fn update(&self, change: impl Fn(&mut Manifest) + Send) -> Result<Manifest> {
        let mut failures = 0;
        for attempt in 1..=MOST_TRIES {
            let (mut manifest, mode) = match self.manifest().await? {
                Some((manifest, version)) => (manifest, PutMode::Update(version)),
                None => (Manifest::default(), PutMode::Create),
            };
            change(&mut manifest);
            match self.put(MANIFEST, to_bytes(&manifest)?.into(), mode).await {
                Ok(()) => return Ok(manifest),
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {}
                // It may have arrived: look again, and apply the change again, which does nothing then.
                Err(Error::Generic { .. }) if failures < MOST_FAILURES => failures += 1,
                Err(error) => return Err(LakeError::Storage(error)),
            }
            tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
        }
        Err(LakeError::Contended(MOST_TRIES))
    }

    async fn put(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<(), Error> {
        let path = self.path(name);
        let put = |mode: PutMode| self.store.put_opts(&path, PutPayload::from(bytes.clone()), mode.into());
        match put(mode).await {
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => put(PutMode::Overwrite).await?,
            other => other?,
        };
        Ok(())
    }

    pub fn scratch(&self) -> Result<NamedTempFile> {
        NamedTempFile::new().map_err(|error| self.scratch_failed(error))
    }

    pub fn scratch_place(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn scratch_failed(&self, error: io::Error) -> LakeError {
        LakeError::io(self.scratch_place().display(), error)
    }

    pub async fn put_new(&self, name: &str, file: NamedTempFile) -> Result<PutOutcome> {
        let size = file.as_file().metadata().map_err(|error| self.scratch_failed(error))?.len();
        if self.exists(name).await? {
            return Ok(PutOutcome::AlreadyThere);
        }
        if size > 2 * PART as u64 {
            return self.put_parts(name, file).await;
        }
        let bytes = spawn_blocking(move || fs::read(file.path())).await?.map_err(|error| self.scratch_failed(error))?;
        let bytes = Bytes::from(bytes);
        let mut failures = 0;
        loop {
            match self.put(name, bytes.clone(), PutMode::Create).await {
                Ok(()) => return Ok(PutOutcome::Created),
                // Perhaps by our own first try: the caller compares the rows.
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(PutOutcome::AlreadyThere),
                Err(Error::Generic { .. }) if failures < MOST_FAILURES => failures += 1,
                Err(error) => return Err(LakeError::Storage(error)),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// In parts, one at a time; the object appears when all are there. S3 cannot make that conditional for us, but whoever
    /// writes the same name writes the same rows.
    async fn put_parts(&self, name: &str, file: NamedTempFile) -> Result<PutOutcome> {
        let mut upload = self.store.put_multipart(&self.path(name)).await.map_err(LakeError::Storage)?;
        let mut from = file.reopen().map_err(|error| self.scratch_failed(error))?;
        loop {
            let mut part = BytesMut::zeroed(PART);
            let (read, part) = spawn_blocking(move || -> io::Result<_> {
                let mut filled = 0;
                while filled < part.len() {
                    match from.read(&mut part[filled..])? {
                        0 => break,
                        more => filled += more,
                    }
                }
                part.truncate(filled);
                Ok((from, part.freeze()))
            })
            .await?
            .map_err(|error| self.scratch_failed(error))?;
            from = read;
            if part.is_empty() {
                break;
            }
            if let Err(error) = upload.put_part(part.into()).await {
                // Parts that nobody completes cost money.
                let _ = upload.abort().await;
                return Err(LakeError::Storage(error));
            }
        }
        upload.complete().await.map_err(LakeError::Storage)?;
        Ok(PutOutcome::Created)
    }

    async fn exists(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.path(name)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(LakeError::Storage(error)),
        }
    }

    pub async fn read(&self, name: &str) -> Result<Option<File>> {
        let found = match self.store.get(&self.path(name)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::Storage(error)),
        };
        let copy = tempfile::tempfile().map_err(|error| self.scratch_failed(error))?;
        let mut copy = tokio::fs::File::from_std(copy);
        let mut parts = found.into_stream();
        while let Some(part) = parts.try_next().await.map_err(LakeError::Storage)? {
            copy.write_all(&part).await.map_err(|error| self.scratch_failed(error))?;
        }
        copy.rewind().await.map_err(|error| self.scratch_failed(error))?;
        Ok(Some(copy.into_std().await))
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let found: Vec<_> =
            self.store.list(Some(&self.path(folder))).try_collect().await.map_err(LakeError::Storage)?;
        let mut names: Vec<String> = found.iter().filter_map(|object| self.name(&object.location)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn name(&self, location: &Path) -> Option<String> {
        let parts: Vec<_> = location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }

    pub async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(LakeError::Storage(error)),
        }
    }
}
