//! Files that sealed files replaced: removed at once, or a reader of whole folders would count their rows twice.

use chrono::{DateTime, Utc};
use domain::manifest::Manifest;
use futures::{FutureExt, StreamExt, TryStreamExt};

use crate::{LakeStore, Result};

/// A day may have thousands of segments, and a bucket answers each removal by itself.
const REMOVED_AT_ONCE: usize = 16;

/// Removes what the manifest lists as replaced, and adds the number of files to `removed`. Gives the manifest as it is then.
pub(crate) async fn remove_replaced(
    lake: &LakeStore,
    manifest: Manifest,
    now: DateTime<Utc>,
    removed: &mut u64,
) -> Result<Manifest> {
    if manifest.retired.is_empty() {
        return Ok(manifest);
    }
    let names: Vec<String> = manifest.retired.iter().map(|file| file.name.clone()).collect();
    // First the files: a name that is forgotten first would stay for ever if we died in between.
    let remove = |name: String| {
        let lake = lake.clone();
        async move { lake.remove(&name).await }.boxed()
    };
    let removals: Vec<_> = names.iter().cloned().map(remove).collect();
    futures::stream::iter(removals).buffer_unordered(REMOVED_AT_ONCE).try_collect::<()>().await?;
    *removed += names.len() as u64;
    lake.update(now, move |manifest| manifest.retired.retain(|file| !names.contains(&file.name))).await
}
