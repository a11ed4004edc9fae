//! Whether segments have runs of a name. Of a large segment the filters of all blocks are kept together in states/, so that
//! one read asks them all: see `schema/store.md`, "Filters of names".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::slot::JOURNALS;
use super::{STATES, Store};
use crate::checksum;
use crate::error::{Error, Result};
use crate::file_header::{self, FileKind};
use crate::id::{StoreId, random_name};
use crate::segment::{Block, BlockSummary, NAME_GROUP_BYTES, NameHash, SEGMENT_ENDING, Segment};
use crate::storage::{Storage, StoredFile, write_whole};

/// The filters of so many blocks and more are kept together.
const MIN_BLOCKS: usize = 16;
const ENDING: &str = ".filters";
/// What such a file begins with.
const FILE: FileKind = FileKind { word: "list of filters", magic: *b"RUNSNAPF", version: 1 };

impl Store {
    /// Whether a segment has a run of that name, forgotten or not. One whose names are damaged may have it.
    pub(super) fn has_name(&self, segment: &Arc<Segment>, name: &str) -> bool {
        let hash = NameHash::of(name);
        let together = Together::of(segment, self.config.store);
        let asked = together.as_ref().and_then(|together| {
            together.ask(&*self.storage, hash).or_else(|| {
                // Where they cannot be kept they are asked one by one.
                together.keep(&*self.storage).ok()?;
                together.ask(&*self.storage, hash)
            })
        });
        let may_have_it = |(place, summary): &(usize, &BlockSummary)| match asked.as_ref().and_then(|a| a.get(place)) {
            Some(may) => *may,
            None => !matches!(segment.may_have_name(summary, hash), Ok(false)),
        };
        let mut blocks = segment.blocks.iter().enumerate().filter(may_have_it);
        // A name must not come to mean other code: what cannot be read counts as taken.
        blocks.any(|(number, _)| segment.block(number).map_or(true, |block| has_name_in(&block, name)))
    }
}

fn has_name_in(block: &Block, name: &str) -> bool {
    let paths: [&[&str]; 2] = [&["start", "name"], &["forgotten", "name"]];
    let mut columns = paths.into_iter().flat_map(|path| block.columns_at(path));
    let is_in = columns.any(|number| match block.column(number) {
        Ok(column) => column.has_text(name, block.summary.rows),
        Err(_) => true,
    });
    is_in || block.rows_with_more().any(|row| row.name() == Some(name))
}

/// The blocks of a segment whose filters are kept together, cut into as many slices each: a name is in the same slice of all.
struct Together<'s> {
    segment: &'s Segment,
    store: StoreId,
    slices: u64,
    blocks: Vec<Sliced>,
}

/// A filter that is cut into slices.
struct Sliced {
    /// The block's number.
    block: usize,
    filter_bytes: u64,
    /// So many groups each slice has. Where a filter cannot be cut evenly, slices overlap.
    width: u64,
}

impl Sliced {
    fn groups(&self) -> u64 {
        self.filter_bytes / NAME_GROUP_BYTES as u64
    }

    /// The first group of a slice.
    fn start(&self, slice: u64, slices: u64) -> u64 {
        (slice * self.groups() / slices).min(self.groups() - self.width)
    }
}

impl<'s> Together<'s> {
    /// None where there are few.
    fn of(segment: &'s Segment, store: StoreId) -> Option<Self> {
        let groups = |block: &BlockSummary| block.filter_bytes / NAME_GROUP_BYTES as u64;
        let greatest = segment.blocks.iter().map(groups).max()?;
        let slices = 1u64 << (greatest / 2).checked_ilog2().unwrap_or(0);
        let sliced = |(block, summary): (usize, &BlockSummary)| {
            let groups = groups(summary);
            let width = if groups % slices == 0 { groups / slices } else { groups / slices + 2 };
            // Of a short filter most slices would be the same.
            let is_long = groups > 0 && groups >= slices / 4;
            is_long.then_some(Sliced { block, filter_bytes: summary.filter_bytes, width: width.min(groups) })
        };
        let blocks: Vec<Sliced> = segment.blocks.iter().enumerate().filter_map(sliced).collect();
        (blocks.len() >= MIN_BLOCKS).then_some(Self { segment, store, slices, blocks })
    }

    fn path(&self) -> String {
        format!("{STATES}/{}{ENDING}", self.segment.name.strip_suffix(SEGMENT_ENDING).unwrap_or_default())
    }

    /// The length of a slice of all filters.
    fn slice_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.width as usize).sum::<usize>() * NAME_GROUP_BYTES
    }

    /// Of a slice, and of what it belongs to.
    fn checksum(&self, slice: u64, groups: &[u8]) -> [u8; checksum::BYTES] {
        let numbers = [self.slices, self.blocks.len() as u64, slice].map(u64::to_le_bytes).concat();
        checksum::of_parts(&[&FILE.encode(self.store), self.segment.name.as_bytes(), &numbers, groups])
    }

    /// For each block whether it may have the name; none where that is not kept, or damaged.
    fn ask(&self, storage: &dyn Storage, name: NameHash) -> Option<BTreeMap<usize, bool>> {
        let slice = name.slice(self.slices);
        let bytes = self.slice_bytes();
        let offset = file_header::BYTES as u64 + slice * (bytes + checksum::BYTES) as u64;
        let read = storage.read_range(&self.path(), offset, bytes + checksum::BYTES).ok()?;
        let (mut groups, check) = read.split_at_checked(bytes)?;
        if check != self.checksum(slice, groups) {
            return None;
        }
        let mut asked = BTreeMap::new();
        for sliced in &self.blocks {
            let (own, rest) = groups.split_at_checked(sliced.width as usize * NAME_GROUP_BYTES)?;
            groups = rest;
            let group = name.place(sliced.filter_bytes) / NAME_GROUP_BYTES as u64;
            let place = group.checked_sub(sliced.start(slice, self.slices))? as usize;
            asked.insert(sliced.block, name.may_be_in(own.chunks_exact(NAME_GROUP_BYTES).nth(place)?));
        }
        Some(asked)
    }

    /// Puts them together, and removes those of segments that are gone.
    fn keep(&self, storage: &dyn Storage) -> Result<()> {
        let filter = |sliced: &Sliced| {
            let block = self.segment.blocks.get(sliced.block).map(|block| self.segment.name_filter(block));
            block.unwrap_or_else(|| Ok(Vec::new()))
        };
        let filters = self.blocks.iter().map(filter).collect::<Result<Vec<_>>>()?;
        let mut out = FILE.encode(self.store).to_vec();
        for slice in 0..self.slices {
            let from = out.len();
            for (sliced, filter) in self.blocks.iter().zip(&filters) {
                let start = sliced.start(slice, self.slices) as usize * NAME_GROUP_BYTES;
                let groups = filter.get(start..start + sliced.width as usize * NAME_GROUP_BYTES);
                let ends_early = || Error::damaged(self.segment.path(), "a filter of names ends early");
                out.extend_from_slice(groups.ok_or_else(ends_early)?);
            }
            let check = self.checksum(slice, out.get(from..).unwrap_or_default());
            out.extend(check);
        }
        for file in left_behind(storage)? {
            // Another may be at it as well.
            let _ = storage.remove(&format!("{STATES}/{}", file.name));
        }
        storage.create_folder(STATES)?;
        write_whole(storage, &format!("{STATES}/filters-{}.tmp", random_name()), &self.path(), &out, false)
    }
}

/// The filters that are kept of segments that are gone.
pub fn left_behind(storage: &dyn Storage) -> Result<Vec<StoredFile>> {
    let kept: Vec<StoredFile> = storage.list(STATES)?.into_iter().filter(|file| file.name.ends_with(ENDING)).collect();
    if kept.is_empty() {
        return Ok(kept);
    }
    let segments = storage.list(JOURNALS)?;
    let segments: HashSet<&str> = segments.iter().filter_map(|file| file.name.strip_suffix(SEGMENT_ENDING)).collect();
    let is_left = |file: &StoredFile| file.name.strip_suffix(ENDING).is_none_or(|stem| !segments.contains(stem));
    Ok(kept.into_iter().filter(is_left).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::segment::{Class, Part, Row, SegmentWriter, encode_block};

    /// Twenty blocks of forty to four hundred names, one of two, and one of runs without a name.
    fn blocks() -> Vec<Vec<Option<String>>> {
        let named = |block: usize, count: usize| (0..count).map(|n| Some(format!("run-{block}-{n}"))).collect();
        let mut blocks: Vec<Vec<Option<String>>> = (1..=20).map(|block| named(block, block % 10 * 40 + 40)).collect();
        blocks.extend([named(0, 2), vec![None; 5]]);
        blocks
    }

    fn segment(store: &Store, number: u64) -> Arc<Segment> {
        let storage = &*store.storage;
        let temporary = format!("tmp/{number}.tmp");
        let mut writer = SegmentWriter::create(storage, temporary, store.config.store).expect("created");
        let mut run = 0u64;
        for names in blocks() {
            let row = |name: &Option<String>| {
                run += 1;
                let mut row = Row::empty(RunId::new(run, [7; 8]));
                let start = row.part_mut(Part::Start).get_or_insert_default();
                start.extend(name.iter().map(|name| ("name".to_owned(), name.as_str().into())));
                row
            };
            let rows: Vec<Row> = names.iter().map(row).collect();
            writer.push(encode_block(Class::Run, &rows)).expect("written");
        }
        let path = format!("{JOURNALS}/{number:016x}{SEGMENT_ENDING}");
        writer.finish(&path, Vec::new()).expect("finished");
        Arc::new(Segment::open(&store.storage, &path, store.config.store).expect("opens"))
    }

    fn all_are_known(store: &Store, segment: &Arc<Segment>) {
        for name in blocks().iter().flatten().flatten().step_by(17) {
            assert!(store.has_name(segment, name), "{name}");
        }
        assert!(!(0..200).any(|number| store.has_name(segment, &format!("other-{number}"))));
    }

    #[test]
    fn filters_that_are_kept_together_say_what_each_says() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::init(&folder.path().join("store")).expect("a store").0;
        let segment = segment(&store, 3);
        let together = Together::of(&segment, store.config.store).expect("there are many");
        // 400 names have 25 groups.
        assert_eq!((together.blocks.len(), together.slices), (20, 8));
        let widths: Vec<(u64, u64)> = together.blocks.iter().map(|sliced| (sliced.groups(), sliced.width)).collect();
        let few = [(5, 2), (8, 1), (10, 3), (13, 3), (15, 3), (18, 4), (20, 4), (23, 4), (25, 5), (3, 2)];
        assert_eq!(widths, [few, few].concat());
        let hash = NameHash::of("run-7-7");
        assert_eq!(together.ask(&*store.storage, hash), None, "nothing is kept yet");
        all_are_known(&store, &segment);
        let kept = store.storage.read(&together.path(), 1 << 20).expect("kept");
        assert_eq!(kept.len(), 32 + 8 * (62 * 32 + 8));
        for name in blocks().iter().flatten().flatten() {
            let hash = NameHash::of(name);
            let each = |number: usize| segment.may_have_name(&segment.blocks[number], hash).expect("readable");
            let expected = together.blocks.iter().map(|sliced| (sliced.block, each(sliced.block))).collect();
            assert_eq!(together.ask(&*store.storage, hash), Some(expected), "{name}");
        }
        all_are_known(&store, &segment);
    }

    #[test]
    fn damaged_filters_are_not_believed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::init(&folder.path().join("store")).expect("a store").0;
        let segment = segment(&store, 3);
        all_are_known(&store, &segment);
        let together = Together::of(&segment, store.config.store).expect("there are many");
        let path = store.storage.full_path(&together.path());
        let kept = std::fs::read(&path).expect("kept");
        let zeros = vec![0; kept.len()];
        let flipped: Vec<u8> = kept.iter().map(|byte| byte ^ 1).collect();
        for damaged in [&zeros[..], &flipped, &kept[..700], &[]] {
            std::fs::write(&path, damaged).expect("written");
            all_are_known(&store, &segment);
            assert_eq!(std::fs::read(&path).expect("there"), kept, "it was put together again");
        }
        // Another segment's, under the same name.
        let mut other = Together::of(&segment, StoreId([9; 16])).expect("there are many");
        assert_eq!(other.ask(&*store.storage, NameHash::of("run-7-7")), None);
        other.store = store.config.store;
        assert!(other.ask(&*store.storage, NameHash::of("run-7-7")).is_some());
    }

    #[test]
    fn filters_go_with_their_segments() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::init(&folder.path().join("store")).expect("a store").0;
        let storage = &*store.storage;
        let old = segment(&store, 3);
        assert!(store.has_name(&old, "run-1-1"));
        assert_eq!(left_behind(storage).expect("listed"), []);
        let new = segment(&store, 4);
        storage.remove(&format!("{JOURNALS}/{}", old.name)).expect("removed");
        let left = |storage: &dyn Storage| left_behind(storage).expect("listed").into_iter().map(|file| file.name);
        assert_eq!(left(storage).collect::<Vec<_>>(), ["0000000000000003.filters"]);
        assert!(store.has_name(&new, "run-1-1"));
        assert_eq!(left(storage).count(), 0);
        assert_eq!(storage.list(STATES).expect("listed").len(), 1);
    }
}
