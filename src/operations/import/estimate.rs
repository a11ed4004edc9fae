//! What an import would take in and save, told before anything is touched.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::copies::RunCopy;
use super::known::{KnownRuns, Standing};
use super::tree::{SeenBlocks, walk};
use super::{Found, ImportOptions};
use crate::error::Result;
use crate::id::ObjectId;
use crate::pack::compression::{CAPTURE_LEVEL, compress};
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::snapshot::{Entry, build_trees};
use crate::store::Store;

/// So much of the content that is new is compressed to see how well that goes.
const SAMPLE_BYTES: u64 = 32 << 20;
/// Larger files are no part of the sample.
const SAMPLE_FILE_BYTES: u64 = 4 << 20;
/// What a run's record takes in a journal, about.
const RECORD_BYTES: u64 = 400;
/// What a manifest takes on the disk: one block of nearly all file systems.
const MANIFEST_BYTES: u64 = 4096;

/// What an import would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// How many copies would become runs.
    pub runs: u64,
    /// How many copies are in the store already.
    pub already_imported: u64,
    /// How many files and links the new ones have.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The room that they and their folders take on the disk.
    pub allocated_bytes: u64,
    /// The bytes of content that the store does not have, each content counted once.
    pub distinct_bytes: u64,
    /// What the store would grow by, at most: every content compressed by itself, at the rate of a sample. Differences
    /// between versions make it less.
    pub estimated_store_bytes: u64,
    /// What deleting the originals would give back beyond that, at least.
    pub estimated_saving_bytes: u64,
    /// Copies that would not be imported, and why, a line each.
    pub problems: Vec<String>,
}

/// Reads all copies and tells what an import would do. Without a store everything is new.
pub fn estimate(
    store: Option<&Store>,
    found: Found,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Estimate> {
    let known = match store {
        Some(store) => KnownRuns::new(store, &store.runs()?, &found.sources),
        None => KnownRuns::default(),
    };
    let mut out = Estimate::default();
    let mut blocks = SeenBlocks::new();
    let (mut contents, mut trees) = (HashMap::new(), HashMap::new());
    let (mut sample_bytes, mut sample_stored) = (0u64, 0u64);
    progress.begin("Reading", found.seen.iter().flatten().map(|one| one.files).sum());
    for (source, seen) in found.sources.iter().zip(found.seen) {
        for one in seen {
            progress.advance(one.files);
            let mut tree = walk(&one.copy.tree, &mut blocks);
            known.without_own_files(source, &one.copy, &mut tree);
            let standing = match store {
                Some(store) => known.standing(store, source, &one.copy, &mut tree)?,
                None => Standing::New,
            };
            match standing {
                Standing::New if tree.files.is_empty() && tree.left_out.is_empty() => continue,
                Standing::New => {}
                Standing::Stored(..) => {
                    out.already_imported += 1;
                    continue;
                }
                Standing::Refused(reason) => {
                    out.problems.push(problem(&one.copy, &reason));
                    continue;
                }
            }
            let entries = tree.hash();
            let unreadable = tree.unreadable();
            if !unreadable.is_empty() {
                out.problems.push(problem(&one.copy, &format!("cannot be read: {}", unreadable.join(", "))));
                continue;
            }
            out.runs += 1;
            out.files += entries.len() as u64;
            out.bytes += entries.values().map(Entry::bytes).sum::<u64>();
            out.allocated_bytes += tree.allocated_bytes;
            let mut new = Vec::new();
            for (path, entry) in &entries {
                let Entry::File { id, bytes, .. } = entry else { continue };
                let is_stored = |kind| store.is_some_and(|store| store.contains(kind, *id));
                if is_stored(ObjectKind::Chunk) || is_stored(ObjectKind::ChunkList) {
                    continue;
                }
                if contents.insert(*id, *bytes).is_none() && *bytes <= SAMPLE_FILE_BYTES {
                    new.extend(tree.files.get(path));
                }
            }
            for tree in build_trees(&entries).unwrap_or_default() {
                trees.insert(tree.id, tree.bytes.len() as u64);
            }
            if sample_bytes < SAMPLE_BYTES {
                let stored = |path: &&std::path::PathBuf| {
                    let raw = std::fs::read(path).ok()?;
                    let stored = compress(&raw, &[], CAPTURE_LEVEL).map_or(raw.len(), |stored| stored.len());
                    Some((raw.len() as u64, stored as u64))
                };
                let sampled: Vec<(u64, u64)> = new.par_iter().filter_map(stored).collect();
                sample_bytes += sampled.iter().map(|(raw, _)| raw).sum::<u64>();
                sample_stored += sampled.iter().map(|(_, stored)| stored).sum::<u64>();
            }
        }
    }
    progress.end();
    out.distinct_bytes = total(&contents);
    let compressed = match sample_bytes {
        0 => out.distinct_bytes,
        _ => (u128::from(out.distinct_bytes) * u128::from(sample_stored) / u128::from(sample_bytes)) as u64,
    };
    // Trees of versions are alike but for the ids of what changed; half of their length is more than they take.
    out.estimated_store_bytes = compressed + total(&trees) / 2 + out.runs * RECORD_BYTES;
    let has_manifests = options.delete_originals || options.layout == crate::run_record::Layout::Rustybt;
    let manifests = if has_manifests { out.runs * MANIFEST_BYTES } else { 0 };
    out.estimated_saving_bytes = out.allocated_bytes.saturating_sub(out.estimated_store_bytes + manifests);
    Ok(out)
}

fn total(bytes_by_id: &HashMap<ObjectId, u64>) -> u64 {
    bytes_by_id.values().sum()
}

fn problem(copy: &RunCopy, reason: &str) -> String {
    format!("Not imported: {}: {reason}", copy.tree.display())
}
