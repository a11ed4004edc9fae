//! Which objects stand together in a frame, what a frame is a difference to, and its compression.

use std::collections::{BTreeMap, HashMap};

use super::{Compaction, Item, Object};
use crate::dense_trees::{DenseEncoder, FileObject};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::PreparedFrame;
use crate::pack::format::{ObjectKind, Prefix};
use crate::store::catalog::Place;
use crate::store::{ObjectBytes, Store};
use crate::tracked_path::TrackedPath;

/// The content of a frame, so that one file is read in some ten milliseconds.
const FRAME_BYTES: usize = 16 << 20;
/// The trees of a frame, laid out.
const TREES_BYTES: usize = 8 << 20;
/// Versions of one path that have more content than this get frames of their own.
const LONG_HISTORY_BYTES: usize = 4 << 20;
/// The content of such a frame: as much as a frame may have, because each further one stores a version in full. Few large
/// versions are decoded ten times as fast as many small files, and no frame but the history's first stands before one.
const HISTORY_FRAME_BYTES: usize = 60 << 20;

/// What goes into frames one after the other: differences to `base`, or where that is absent all to the first object.
pub(super) struct Unit {
    base: Option<Place>,
    frames: Vec<Vec<Item>>,
}

impl Unit {
    pub(super) fn bytes(&self) -> usize {
        self.frames.iter().flatten().map(|item| item.bytes).sum()
    }
}

#[derive(Default)]
pub(super) struct Built {
    /// Frames, whose `Prefix::Here` still counts from the unit's first object.
    pub(super) frames: Vec<PreparedFrame>,
    pub(super) raised: Vec<Object>,
    pub(super) problems: Vec<Error>,
}

impl Store {
    /// The content of an object that is to be moved.
    fn read_item(&self, item: &Item) -> Result<ObjectBytes> {
        match self.take(&item.place) {
            // Where the table has a key alone, only the content can tell.
            Ok(bytes) if item.kind.has_full_id() || ObjectId::of(&bytes) == item.id => Ok(bytes),
            _ => self.object(item.kind, item.id),
        }
    }

    /// Compresses one unit.
    pub(super) fn build(&self, unit: &Unit, level: i32) -> Built {
        let mut built = Built::default();
        let outside = unit.base.as_ref().and_then(|base| {
            let position = base.frame()?.chain_position + 1;
            Some((Prefix::Anywhere(base.object()?.name.key()), self.take(base).ok()?.to_vec(), position))
        });
        let mut oldest: Option<Vec<u8>> = None;
        for items in &unit.frames {
            let mut read = Vec::with_capacity(items.len());
            for item in items {
                match self.read_item(item) {
                    Ok(bytes) => read.push((item, bytes)),
                    Err(error) => built.problems.push(error),
                }
            }
            let Some((_, first)) = read.first() else { continue };
            let objects: Vec<_> = read.iter().map(|(item, bytes)| (item.kind, item.id, &bytes[..])).collect();
            let may_rise = read.iter().all(|(item, _)| item.limit > 0);
            let frame = match (&outside, &oldest) {
                (Some((prefix, content, position)), _) => {
                    PreparedFrame::new(&objects, *prefix, content, *position, level)
                }
                (None, Some(content)) if may_rise => PreparedFrame::new(&objects, Prefix::Here(0), content, 1, level),
                _ => PreparedFrame::new(&objects, Prefix::None, &[], 0, level),
            };
            let position = frame.chain_position();
            let is_raised = |(item, _): &&(&Item, _)| position > item.position();
            built.raised.extend(read.iter().filter(is_raised).map(|(item, _)| (item.kind, item.id)));
            if unit.frames.len() > 1 && outside.is_none() && oldest.is_none() {
                oldest = Some(first.to_vec());
            }
            built.frames.push(frame);
        }
        built
    }
}

impl Compaction<'_> {
    /// Sorts contents and trees into units; the trees that are left go into dense frames.
    pub(super) fn arrange(&self, mut contents: Vec<Item>, mut folders: Vec<Item>) -> (Vec<Unit>, Vec<Item>) {
        // The packs of captures come in the order of their names, which are random. In a chain later versions stand higher.
        contents.sort_by_key(Item::position);
        folders.sort_by_key(Item::position);
        let (mut solid, mut dense) = (Vec::new(), Vec::new());
        let mut differences: BTreeMap<(String, usize), (Place, Vec<Item>)> = BTreeMap::new();
        for item in contents.into_iter().chain(folders) {
            let has_versions = matches!(item.kind, ObjectKind::Chunk | ObjectKind::Tree);
            let base = if has_versions { self.outside_base(&item.place) } else { None };
            match base {
                Some(base) => {
                    let key = (base.pack.path.clone(), base.ordinal);
                    differences.entry(key).or_insert_with(|| (base, Vec::new())).1.push(item);
                }
                None if matches!(item.kind, ObjectKind::Tree | ObjectKind::Snapshot) => dense.push(item),
                None => solid.push(item),
            }
        }
        // What is alike stands side by side: files of one kind, and of those the versions of one path, oldest first.
        solid.sort_by_cached_key(|item| item.path.as_ref().map(|path| (extension(path), path.clone())));
        let mut units = Vec::new();
        let mut mixed: Vec<Item> = Vec::new();
        for history in chunk_by_path(solid) {
            if is_long(&history) {
                units.push(Unit { base: None, frames: cut(history, HISTORY_FRAME_BYTES) });
            } else {
                mixed.extend(history);
            }
        }
        units.extend(cut(mixed, FRAME_BYTES).into_iter().map(|items| Unit { base: None, frames: vec![items] }));
        for (base, items) in differences.into_values() {
            let room = FRAME_BYTES.saturating_sub(base.object().map_or(0, |object| object.bytes));
            units.push(Unit { base: Some(base), frames: cut(items, room.max(1)) });
        }
        // Those that take longest first, so that no core waits for one at the end.
        units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes()));
        (units, dense)
    }

    /// Trees and snapshots in their dense form, those that came together in one frame.
    pub(super) fn dense_frames(
        &mut self,
        folders: Vec<Item>,
        files: &HashMap<ObjectId, FileObject>,
    ) -> Vec<PreparedFrame> {
        let mut frames = Vec::new();
        for mut window in cut(folders, TREES_BYTES) {
            // A folder's versions side by side, each tree after those that it may have as folders, snapshots last.
            window.sort_by_cached_key(|item| {
                let depth = item.path.as_ref().map_or(0, |path| path.parts().count());
                (item.kind, std::cmp::Reverse(depth), item.path.clone())
            });
            let mut encoder = DenseEncoder::default();
            for item in window {
                let Some(bytes) = self.read(&item) else { continue };
                let added = match item.kind {
                    ObjectKind::Tree => encoder.add_tree(item.id, &bytes, files),
                    _ => encoder.add_snapshot(item.id, &bytes),
                };
                if let Err(reason) = added {
                    let path = self.store.storage.full_path(&item.place.pack.path);
                    self.problems.push(Error::damaged(path, format!("{} {}: {reason}", item.kind.word(), item.id)));
                }
            }
            let (objects, dense) = encoder.finish();
            if !objects.is_empty() {
                frames.push(PreparedFrame::dense(&objects, &dense, self.options.level));
            }
        }
        frames
    }

    fn read(&mut self, item: &Item) -> Option<ObjectBytes> {
        self.store.read_item(item).map_err(|error| self.problems.push(error)).ok()
    }
}

/// Whether the versions of a path are so much that they get frames of their own.
fn is_long(history: &[Item]) -> bool {
    let bytes: usize = history.iter().map(|item| item.bytes).sum();
    bytes > LONG_HISTORY_BYTES && history.len() > 1 && history.iter().all(|item| item.kind == ObjectKind::Chunk)
}

fn extension(path: &TrackedPath) -> Vec<u8> {
    path.name().rsplit(|b| *b == b'.').next().unwrap_or_default().to_vec()
}

/// Splits sorted items where the path changes.
fn chunk_by_path(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut out: Vec<Vec<Item>> = Vec::new();
    for item in items {
        match out.last_mut() {
            Some(group) if group.last().is_some_and(|last| last.path.is_some() && last.path == item.path) => {
                group.push(item);
            }
            _ => out.push(vec![item]),
        }
    }
    out
}

/// Cuts items into groups of at most `bytes`, or of one.
fn cut(items: Vec<Item>, bytes: usize) -> Vec<Vec<Item>> {
    let mut out: Vec<Vec<Item>> = Vec::new();
    let mut filled = 0;
    for item in items {
        if filled + item.bytes > bytes || out.is_empty() {
            out.push(Vec::new());
            filled = 0;
        }
        filled += item.bytes;
        if let Some(last) = out.last_mut() {
            last.push(item);
        }
    }
    out
}
