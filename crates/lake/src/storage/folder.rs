//! A lake in a local folder. A file is written beside the data and linked to its name when it is on the disk.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use domain::manifest::{MANIFEST, Manifest};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::{PutOutcome, parse, to_bytes};
use crate::{LakeError, Result};

/// Hidden from readers that take whole folders: they skip names that begin with an underscore.
const SCRATCH: &str = "_tmp";
/// Folders that are not whole yet. Not in `SCRATCH`, where earlier versions expect files alone.
const STAGE: &str = "_stage";
const LOCK: &str = "_manifest.lock";

#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Self> {
        let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
        Ok(Self { root: made.map_err(|error| LakeError::io(path.display(), error))? })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn failed(&self, error: io::Error) -> LakeError {
        LakeError::io(self.root.display(), error)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static) -> Result<T> {
        let root = self.root.clone();
        spawn_blocking(move || work(&root)).await?.map_err(|error| self.failed(error))
    }

    pub async fn manifest(&self) -> Result<Option<Manifest>> {
        let bytes = self.run(|root| if_there(fs::read(root.join(MANIFEST)))).await?;
        bytes.map(|bytes| parse(MANIFEST, &bytes)).transpose()
    }

    pub async fn update(&self, change: impl Fn(&mut Manifest) + Send + 'static) -> Result<Manifest> {
        let folder = self.clone();
        spawn_blocking(move || {
            // Others may share the folder without sharing the database's lock, when that was lost on the way.
            let lock = File::create(folder.root.join(LOCK)).map_err(|error| folder.failed(error))?;
            lock.lock().map_err(|error| folder.failed(error))?;
            let current = if_there(fs::read(folder.root.join(MANIFEST))).map_err(|error| folder.failed(error))?;
            let mut manifest = current.map(|bytes| parse(MANIFEST, &bytes)).transpose()?.unwrap_or_default();
            change(&mut manifest);
            let bytes = to_bytes(&manifest)?;
            let mut file = folder.scratch()?;
            file.write_all(&bytes).map_err(|error| folder.failed(error))?;
            file.as_file().sync_all().map_err(|error| folder.failed(error))?;
            file.persist(folder.root.join(MANIFEST)).map_err(|error| folder.failed(error.error))?;
            sync_folder(&folder.root).map_err(|error| folder.failed(error))?;
            Ok(manifest)
        })
        .await?
    }

    pub fn scratch(&self) -> Result<NamedTempFile> {
        let place = self.scratch_place();
        fs::create_dir_all(&place)
            .and_then(|()| {
                // As open to others as their umask says: people read the lake, not only Tollway.
                tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&place)
            })
            .map_err(|error| self.failed(error))
    }

    pub fn scratch_place(&self) -> PathBuf {
        self.root.join(SCRATCH)
    }

    pub async fn put_new(&self, name: &str, file: NamedTempFile) -> Result<PutOutcome> {
        let name = name.to_owned();
        self.run(move |root| {
            let path = root.join(name);
            let day = path.parent().unwrap_or(root);
            fs::create_dir_all(day)?;
            file.as_file().sync_all()?;
            match file.persist_noclobber(&path) {
                Ok(_) => {}
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(PutOutcome::AlreadyThere),
                Err(error) => return Err(error.error),
            }
            // The name, the day's folder and the folder above it: each must survive a power cut.
            for folder in day.ancestors().take_while(|folder| folder.starts_with(root)) {
                sync_folder(folder)?;
            }
            Ok(PutOutcome::Created)
        })
        .await
    }

    /// Puts files whose names share a folder, as that folder: it appears with all of them. Gives the files back when the folder
    /// is there already.
    pub async fn put_folder(
        &self,
        files: Vec<(String, NamedTempFile)>,
    ) -> Result<Result<(), Vec<(String, NamedTempFile)>>> {
        self.run(move |root| {
            let Some(day) = files.first().and_then(|(name, _)| root.join(name).parent().map(Path::to_owned)) else {
                return Ok(Ok(()));
            };
            if day.exists() {
                return Ok(Err(files));
            }
            let above = day.parent().unwrap_or(root).to_owned();
            fs::create_dir_all(&above)?;
            fs::create_dir_all(root.join(STAGE))?;
            let stage = tempfile::tempdir_in(root.join(STAGE))?;
            // As open to others as their umask says, unlike a temporary folder.
            let whole = stage.path().join("day");
            fs::create_dir(&whole)?;
            for (name, file) in files {
                file.as_file().sync_all()?;
                let name = Path::new(&name).file_name().unwrap_or_default();
                file.persist_noclobber(whole.join(name)).map_err(|error| error.error)?;
            }
            sync_folder(&whole)?;
            fs::rename(&whole, &day)?;
            for folder in above.ancestors().take_while(|folder| folder.starts_with(root)) {
                sync_folder(folder)?;
            }
            Ok(Ok(()))
        })
        .await
    }

    pub async fn read(&self, name: &str) -> Result<Option<File>> {
        let name = name.to_owned();
        self.run(move |root| if_there(File::open(root.join(name)))).await
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = folder.to_owned();
        self.run(move |root| {
            let mut found = Vec::new();
            let mut folders = vec![root.join(folder)];
            while let Some(next) = folders.pop() {
                for entry in if_there(fs::read_dir(&next))?.into_iter().flatten() {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        folders.push(entry.path());
                    } else if let Ok(name) = entry.path().strip_prefix(root) {
                        found.push(name.display().to_string());
                    }
                }
            }
            found.sort_unstable();
            Ok(found)
        })
        .await
    }

    pub async fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |root| {
            let path = root.join(name);
            if_there(fs::remove_file(&path))?;
            if let Some(day) = path.parent() {
                // Only an empty day goes, and only the last file's removal leaves one.
                let _ = fs::remove_dir(day);
            }
            Ok(())
        })
        .await
    }

    pub async fn sweep(&self) -> Result<()> {
        self.run(|root| {
            for entry in if_there(fs::read_dir(root.join(SCRATCH)))?.into_iter().flatten() {
                if_there(fs::remove_file(entry?.path()))?;
            }
            if_there(fs::remove_dir_all(root.join(STAGE)))?;
            Ok(())
        })
        .await
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
