//! The two small files that a run's folder gets in place of a copy of the code.

mod json;
mod manifest;
mod metadata;

pub use self::json::Content;
pub use self::manifest::{Manifest, ManifestState, manifest_state, own_manifests, write_manifest};
pub use self::metadata::{CommonMetadata, METADATA_PATH, Metadata, listed_files, metadata, metadata_hash};
use crate::error::Result;
use crate::id::random_name;
use crate::storage::{Storage, write_parts};
use crate::tracked_files::walk::MANIFEST_PATH;

/// Writes both files into a run's folder, each there whole or not at all. They can be made again, so nothing is flushed.
pub fn write(folder: &dyn Storage, manifest: &[u8], metadata: Metadata<'_>) -> Result<()> {
    let random = random_name();
    let metadata = [metadata.common, metadata.own];
    let write = |path: &str, parts: &[&[u8]]| write_parts(folder, &format!("{path}.{random}.tmp"), path, parts, false);
    match write(METADATA_PATH, &metadata) {
        // Who runs many backtests has mostly made it.
        Err(error) if error.is_not_found() => {
            folder.create_folder("metadata")?;
            write(METADATA_PATH, &metadata)?;
        }
        written => written?,
    }
    write(MANIFEST_PATH, &[manifest])
}
