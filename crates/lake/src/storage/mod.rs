//! Where the lake is: a local folder, or a prefix in an S3 bucket. Both make a new file visible only when it is whole, and both
//! refuse to replace one.

mod bucket;
mod folder;

use std::{fmt, fs::File, io::ErrorKind, path::PathBuf};

use chrono::{DateTime, Utc};
use domain::manifest::{Manifest, SCHEMA_VERSION};
use tempfile::NamedTempFile;

use crate::{LakeError, Result};
use bucket::Bucket;
use folder::Folder;

/// The folders that hold data.
pub(crate) const HOT: &str = "hot";
pub(crate) const LEDGER: &str = "ledger";

#[derive(Debug, Clone)]
pub struct LakeStore {
    url: String,
    place: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Folder(Folder),
    Bucket(Bucket),
}

/// What became of a file that was to be put under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    Created,
    /// The name was taken; nothing was changed.
    AlreadyThere,
}

impl LakeStore {
    /// A folder (a path or `file://…`; made if it is not there) or `s3://bucket/prefix`, for which the environment's `AWS_*`
    /// variables say the rest: credentials, region, `AWS_ENDPOINT_URL` for other stores than AWS.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, std::iter::empty::<(&str, &str)>())
    }

    /// As [`LakeStore::open`]; `settings` (such as `aws_endpoint_url`) win over the environment.
    pub fn open_with<K: AsRef<str>, V: Into<String>>(
        url: &str,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let bad = |reason: String| LakeError::BadUrl { url: url.to_owned(), reason };
        if url.starts_with("s3://") || url.starts_with("s3a://") {
            let place = Bucket::open(url, settings).map_err(bad)?;
            return Ok(Self { url: url.trim_end_matches('/').to_owned(), place: Backend::Bucket(place) });
        }
        let path = match url.split_once("://") {
            None => PathBuf::from(url),
            Some(("file", path)) => PathBuf::from(path),
            Some((scheme, _)) => return Err(bad(format!("{scheme}:// is not supported"))),
        };
        if url.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let folder = Folder::open(&path)?;
        Ok(Self { url: folder.root().display().to_string(), place: Backend::Folder(folder) })
    }

    /// A lake to read: as [`LakeStore::open`], but a folder that is not there is not made. `None`: there is none.
    pub fn find(url: &str) -> Result<Option<Self>> {
        let path = match url.split_once("://") {
            None => url,
            Some(("file", path)) => path,
            Some(_) => return Self::open(url).map(Some),
        };
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Self::open(url).map(Some),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(LakeError::io(path, error)),
        }
    }

    /// An absolute path, or `s3://bucket/prefix`; no slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `None` when nothing was ever published here.
    pub async fn manifest(&self) -> Result<Option<Manifest>> {
        match &self.place {
            Backend::Folder(folder) => folder.manifest().await,
            Backend::Bucket(bucket) => Ok(bucket.manifest().await?.map(|(manifest, _)| manifest)),
        }
    }

    /// Changes the manifest, also while others do: `change` may be applied to several versions in turn and must give the same
    /// result when its change is there already. Gives the manifest as it is then.
    pub async fn update(
        &self,
        now: DateTime<Utc>,
        change: impl Fn(&mut Manifest) + Send + Sync + 'static,
    ) -> Result<Manifest> {
        let change = move |manifest: &mut Manifest| {
            change(manifest);
            manifest.updated_at = Some(now);
        };
        match &self.place {
            Backend::Folder(folder) => folder.update(change).await,
            Backend::Bucket(bucket) => bucket.update(change).await,
        }
    }

    /// A file to write to, which goes away unless it is put somewhere.
    pub(crate) fn scratch(&self) -> Result<NamedTempFile> {
        match &self.place {
            Backend::Folder(folder) => folder.scratch(),
            Backend::Bucket(bucket) => bucket.scratch(),
        }
    }

    /// Where [`LakeStore::scratch`] makes its files.
    pub(crate) fn scratch_place(&self) -> PathBuf {
        match &self.place {
            Backend::Folder(folder) => folder.scratch_place(),
            Backend::Bucket(bucket) => bucket.scratch_place(),
        }
    }

    /// Makes a finished file visible under `name`, unless there is one.
    pub(crate) async fn put_new(&self, name: &str, file: NamedTempFile) -> Result<PutOutcome> {
        match &self.place {
            Backend::Folder(folder) => folder.put_new(name, file).await,
            Backend::Bucket(bucket) => bucket.put_new(name, file).await,
        }
    }

    /// Makes finished files of one folder visible, in a folder of the disk all in one step. `AlreadyThere` when one of the names was
    /// taken; the others may be visible then.
    pub(crate) async fn put_together(&self, files: Vec<(String, NamedTempFile)>) -> Result<PutOutcome> {
        let files = match &self.place {
            Backend::Folder(folder) => match folder.put_folder(files).await? {
                Ok(()) => return Ok(PutOutcome::Created),
                Err(files) => files,
            },
            Backend::Bucket(_) => files,
        };
        let mut put = PutOutcome::Created;
        for (name, file) in files {
            if self.put_new(&name, file).await? == PutOutcome::AlreadyThere {
                put = PutOutcome::AlreadyThere;
            }
        }
        Ok(put)
    }

    /// The file `name` for reading, from a bucket as a temporary copy; `None` when there is none.
    pub async fn read(&self, name: &str) -> Result<Option<File>> {
        match &self.place {
            Backend::Folder(folder) => folder.read(name).await,
            Backend::Bucket(bucket) => bucket.read(name).await,
        }
    }

    /// All files under `folder`, such as `hot`, listed in the manifest or not.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<String>> {
        match &self.place {
            Backend::Folder(place) => place.list(folder).await,
            Backend::Bucket(place) => place.list(folder).await,
        }
    }

    /// Removes a file, if it is there.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        match &self.place {
            Backend::Folder(folder) => folder.remove(name).await,
            Backend::Bucket(bucket) => bucket.remove(name).await,
        }
    }

    /// Removes what writers that were killed left behind. Only for the holder of the lake's lock.
    pub(crate) async fn sweep(&self) -> Result<()> {
        match &self.place {
            Backend::Folder(folder) => folder.sweep().await,
            // Temporary files of a bucket's lake have no name that outlives the process.
            Backend::Bucket(_) => Ok(()),
        }
    }
}

impl fmt::Display for LakeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The manifest in `bytes`.
fn parse(name: &str, bytes: &[u8]) -> Result<Manifest> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| LakeError::unreadable(name, error))?;
    if version.schema_version > SCHEMA_VERSION {
        return Err(LakeError::TooNew(version.schema_version));
    }
    serde_json::from_slice(bytes).map_err(|error| LakeError::unreadable(name, error))
}

fn to_bytes(manifest: &Manifest) -> Result<Vec<u8>> {
    serde_json::to_vec(manifest).map_err(|error| LakeError::unreadable(domain::manifest::MANIFEST, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_says_why() {
        for url in ["", "ftp://host/lake", "s3://"] {
            assert!(matches!(LakeStore::open(url), Err(LakeError::BadUrl { .. })), "{url}");
        }
    }

    #[test]
    fn looking_for_a_lake_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(place("file"), "").unwrap();
        for nowhere in [place("nope"), format!("file://{}", place("nope")), place("file"), place("file/below")] {
            assert!(LakeStore::find(&nowhere).unwrap().is_none(), "{nowhere}");
        }
        assert!(!folder.path().join("nope").exists());
        assert!(LakeStore::find(&folder.path().display().to_string()).unwrap().is_some());
        assert!(matches!(LakeStore::find("ftp://host/lake"), Err(LakeError::BadUrl { .. })));
    }

    #[test]
    fn a_newer_manifest_is_refused_by_its_version_alone() {
        let newer = br#"{"schema_version":2,"files":"in another shape"}"#;
        assert!(matches!(parse("m", newer), Err(LakeError::TooNew(2))));
        assert!(matches!(parse("m", b"{"), Err(LakeError::Unreadable { .. })));
    }
}
