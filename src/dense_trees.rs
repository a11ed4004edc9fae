//! Trees and snapshots in the form in which merged packs keep them.
//!
//! In their canonical encodings the ids are nearly everything, and ids do not compress. Here a file is named by its place
//! in the pack's table, where its id stands anyway, and a tree by its place in the frame; its id follows from its
//! content. `schema/pack.md` describes the bytes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::ObjectId;
use crate::pack::format::ObjectKind;
use crate::snapshot::{Entry, Node, SNAPSHOT_TAG, Snapshot, TREE_TAG, decode_tree, push_string};

/// The file stands here by its id and length.
const INLINE: u64 = 0;
/// The file is empty.
const EMPTY: u64 = 1;
/// The first number that means an object of the pack, or of trees one of the frame.
const FIRST: u64 = 2;

/// A file's content in the pack whose trees are made dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileObject {
    /// Its place in the table.
    pub ordinal: u32,
    /// Whether it is the list of the file's chunks rather than the content.
    pub is_list: bool,
}

/// Gathers the trees and snapshots of one frame.
#[derive(Debug, Default)]
pub struct DenseEncoder {
    out: Vec<u8>,
    places: HashMap<ObjectId, u64>,
    objects: Vec<(ObjectKind, ObjectId, u64)>,
    canonical_bytes: usize,
}

impl DenseEncoder {
    /// Adds a tree in its canonical encoding. Those that it has as folders come before it, where they are in this frame.
    pub fn add_tree(
        &mut self,
        id: ObjectId,
        canonical: &[u8],
        files: &HashMap<ObjectId, FileObject>,
    ) -> DecodeResult<()> {
        let nodes = decode_tree(canonical)?;
        push_varint(&mut self.out, nodes.len() as u64);
        for (name, node) in &nodes {
            self.out.push(node.kind_byte());
            self.push_bytes(name);
            match node {
                Node::Entry(Entry::File { id, bytes, .. }) => match files.get(id) {
                    _ if *bytes == 0 && *id == ObjectId::of(&[]) => push_varint(&mut self.out, EMPTY),
                    Some(file) => {
                        push_varint(&mut self.out, u64::from(file.ordinal) + FIRST);
                        if file.is_list {
                            push_varint(&mut self.out, *bytes);
                        }
                    }
                    None => {
                        push_varint(&mut self.out, INLINE);
                        push_varint(&mut self.out, *bytes);
                        self.out.extend(id.0);
                    }
                },
                Node::Entry(Entry::Symlink { target }) => self.push_bytes(target),
                Node::Folder(id) => self.push_tree(id),
            }
        }
        self.added(ObjectKind::Tree, id, canonical);
        Ok(())
    }

    /// Adds a snapshot in its canonical encoding, after its trees.
    pub fn add_snapshot(&mut self, id: ObjectId, canonical: &[u8]) -> DecodeResult<()> {
        let snapshot = Snapshot::decode(canonical)?;
        self.push_tree(&snapshot.root);
        push_varint(&mut self.out, snapshot.outside.len() as u64);
        for (label, tree) in &snapshot.outside {
            self.push_bytes(label);
            self.push_tree(tree);
        }
        self.added(ObjectKind::Snapshot, id, canonical);
        Ok(())
    }

    fn added(&mut self, kind: ObjectKind, id: ObjectId, canonical: &[u8]) {
        self.places.insert(id, self.objects.len() as u64);
        self.objects.push((kind, id, canonical.len() as u64));
        self.canonical_bytes += canonical.len();
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        push_varint(&mut self.out, bytes.len() as u64);
        self.out.extend(bytes);
    }

    fn push_tree(&mut self, id: &ObjectId) {
        match self.places.get(id) {
            Some(place) => push_varint(&mut self.out, place + FIRST),
            None => {
                push_varint(&mut self.out, INLINE);
                self.out.extend(id.0);
            }
        }
    }

    /// The bytes that the objects have in their canonical encodings.
    pub fn canonical_bytes(&self) -> usize {
        self.canonical_bytes
    }

    /// The objects with their canonical lengths, and their dense form.
    pub fn finish(self) -> (Vec<(ObjectKind, ObjectId, u64)>, Vec<u8>) {
        (self.objects, self.out)
    }
}

/// A file of the pack, as its table tells: the id, the length, and whether it is a chunk list, whose length is not the
/// file's.
pub type TableFile = (ObjectId, u64, bool);

/// Lays out the canonical encodings of `objects`, one after the other, which stand in `dense`.
///
/// `file` tells of an object of the pack by its place in the table.
pub fn expand(
    dense: &[u8],
    objects: impl Iterator<Item = (ObjectKind, usize)>,
    file: impl Fn(usize) -> Option<TableFile>,
) -> DecodeResult<Vec<u8>> {
    let mut expansion = Expansion { decoder: Decoder::new(dense), out: Vec::new(), end: 0 };
    let mut ids: Vec<ObjectId> = Vec::new();
    for (kind, bytes) in objects {
        let start = expansion.out.len();
        expansion.object(kind, bytes, &file, &mut |place| ids.get(place).copied())?;
        ids.push(ObjectId::of(expansion.out.get(start..).unwrap_or_default()));
    }
    expansion.decoder.finish()?;
    Ok(expansion.out)
}

/// A dense frame of which single objects are laid out, as they are asked for, with those that their ids depend on.
#[derive(Debug)]
pub struct DenseFrame {
    dense: Vec<u8>,
    /// The first byte of each object.
    starts: Vec<usize>,
    laid_out: HashMap<usize, (ObjectId, Arc<Vec<u8>>)>,
}

impl DenseFrame {
    /// Finds where each object begins. Everything is read, and nothing laid out.
    pub fn new(
        dense: Vec<u8>,
        objects: impl Iterator<Item = ObjectKind>,
        is_list: impl Fn(usize) -> Option<bool>,
    ) -> DecodeResult<Self> {
        let mut decoder = Decoder::new(&dense);
        let mut starts = Vec::new();
        for kind in objects {
            starts.push(dense.len() - decoder.rest().len());
            match kind {
                ObjectKind::Tree => pass_tree(&mut decoder, &is_list)?,
                ObjectKind::Snapshot => pass_snapshot(&mut decoder)?,
                other => return Err(not_dense(other)),
            }
        }
        decoder.finish()?;
        Ok(Self { dense, starts, laid_out: HashMap::new() })
    }

    /// The canonical encoding of the object at a place of the frame.
    ///
    /// `object` tells the kind and canonical length of one at a place, `file` is as in [`expand`].
    pub fn object(
        &mut self,
        place: usize,
        object: impl Fn(usize) -> Option<(ObjectKind, usize)>,
        file: impl Fn(usize) -> Option<TableFile>,
    ) -> DecodeResult<Arc<Vec<u8>>> {
        // What an id depends on stands before it: each step leads to lower places, and as this is no recursion, frames
        // whose trees stand in each other without end cost no stack.
        let mut waiting = vec![place];
        while let Some(next) = waiting.last().copied() {
            if !self.laid_out.contains_key(&next) {
                let (kind, bytes) = object(next).ok_or("an object that is not in the frame")?;
                let start = *self.starts.get(next).ok_or("an object that is not in the frame")?;
                let decoder = Decoder::new(self.dense.get(start..).unwrap_or_default());
                let mut expansion = Expansion { decoder, out: Vec::new(), end: 0 };
                let mut missing = Vec::new();
                expansion.object(kind, bytes, &file, &mut |place| {
                    // The format has no reference to a place that does not stand before.
                    if place >= next {
                        return None;
                    }
                    let known = self.laid_out.get(&place).map(|(id, _)| *id);
                    known.or_else(|| {
                        missing.push(place);
                        Some(ObjectId([0; 32]))
                    })
                })?;
                if !missing.is_empty() {
                    waiting.append(&mut missing);
                    continue;
                }
                self.laid_out.insert(next, (ObjectId::of(&expansion.out), Arc::new(expansion.out)));
            }
            waiting.pop();
        }
        let (_, canonical) = self.laid_out.get(&place).ok_or("an object that is not in the frame")?;
        Ok(Arc::clone(canonical))
    }
}

fn not_dense(kind: ObjectKind) -> String {
    format!("a {} in a dense frame", kind.word())
}

/// Passes over a dense tree.
fn pass_tree(decoder: &mut Decoder<'_>, is_list: &impl Fn(usize) -> Option<bool>) -> DecodeResult<()> {
    for _ in 0..decoder.count(3)? {
        let kind = decoder.u8()?;
        text(decoder)?;
        match kind {
            Node::FILE | Node::EXECUTABLE => match decoder.varint()? {
                INLINE => {
                    decoder.varint()?;
                    decoder.array::<32>()?;
                }
                EMPTY => {}
                ordinal => {
                    let ordinal = usize::try_from(ordinal - FIRST).unwrap_or(usize::MAX);
                    if is_list(ordinal).ok_or(NOT_IN_TABLE)? {
                        decoder.varint()?;
                    }
                }
            },
            Node::SYMLINK => drop(text(decoder)?),
            Node::FOLDER => pass_reference(decoder)?,
            other => return Err(format!("entry kind {other} is unknown")),
        }
    }
    Ok(())
}

fn pass_snapshot(decoder: &mut Decoder<'_>) -> DecodeResult<()> {
    pass_reference(decoder)?;
    for _ in 0..decoder.count(2)? {
        text(decoder)?;
        pass_reference(decoder)?;
    }
    Ok(())
}

fn pass_reference(decoder: &mut Decoder<'_>) -> DecodeResult<()> {
    if decoder.varint()? == INLINE {
        decoder.array::<32>()?;
    }
    Ok(())
}

fn text<'d>(decoder: &mut Decoder<'d>) -> DecodeResult<&'d [u8]> {
    match decoder.count(1)? {
        bytes if bytes > usize::from(u16::MAX) => Err(format!("a string of {bytes} bytes")),
        bytes => decoder.take(bytes),
    }
}

const NOT_IN_TABLE: &str = "a file that is not in the table";

struct Expansion<'d> {
    decoder: Decoder<'d>,
    out: Vec<u8>,
    /// No object is laid out beyond the length that the table says.
    end: usize,
}

impl Expansion<'_> {
    /// Appends one object, which has to have `bytes` bytes; `tree` tells the id of a tree by its place in the frame.
    fn object(
        &mut self,
        kind: ObjectKind,
        bytes: usize,
        file: &impl Fn(usize) -> Option<TableFile>,
        tree: &mut impl FnMut(usize) -> Option<ObjectId>,
    ) -> DecodeResult<()> {
        let start = self.out.len();
        self.end = start.saturating_add(bytes);
        match kind {
            ObjectKind::Tree => self.tree(file, tree)?,
            ObjectKind::Snapshot => self.snapshot(tree)?,
            other => return Err(not_dense(other)),
        }
        match self.out.len() - start {
            length if length == bytes => Ok(()),
            length => Err(format!("a {} of {length} bytes in place of {bytes}", kind.word())),
        }
    }

    fn tree(
        &mut self,
        file: &impl Fn(usize) -> Option<TableFile>,
        tree: &mut impl FnMut(usize) -> Option<ObjectId>,
    ) -> DecodeResult<()> {
        self.out.extend(TREE_TAG);
        for _ in 0..self.decoder.count(3)? {
            let kind = self.decoder.u8()?;
            self.out.push(kind);
            self.string()?;
            match kind {
                Node::FILE | Node::EXECUTABLE => {
                    let (id, bytes) = match self.decoder.varint()? {
                        INLINE => {
                            let bytes = self.decoder.varint()?;
                            (ObjectId(self.decoder.array()?), bytes)
                        }
                        EMPTY => (ObjectId::of(&[]), 0),
                        ordinal => {
                            let ordinal = usize::try_from(ordinal - FIRST).unwrap_or(usize::MAX);
                            let (id, bytes, is_list) = file(ordinal).ok_or(NOT_IN_TABLE)?;
                            (id, if is_list { self.decoder.varint()? } else { bytes })
                        }
                    };
                    self.out.extend(bytes.to_le_bytes());
                    self.out.extend(id.0);
                }
                Node::SYMLINK => self.string()?,
                Node::FOLDER => self.reference(tree)?,
                other => return Err(format!("entry kind {other} is unknown")),
            }
            if self.out.len() > self.end {
                return Err("a tree that is longer than the table says".into());
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, tree: &mut impl FnMut(usize) -> Option<ObjectId>) -> DecodeResult<()> {
        self.out.extend(SNAPSHOT_TAG);
        self.reference(tree)?;
        for _ in 0..self.decoder.count(2)? {
            self.string()?;
            self.reference(tree)?;
        }
        Ok(())
    }

    fn string(&mut self) -> DecodeResult<()> {
        push_string(&mut self.out, text(&mut self.decoder)?);
        Ok(())
    }

    fn reference(&mut self, tree: &mut impl FnMut(usize) -> Option<ObjectId>) -> DecodeResult<()> {
        let id = match self.decoder.varint()? {
            INLINE => ObjectId(self.decoder.array()?),
            place => {
                let place = place.checked_sub(FIRST).and_then(|place| usize::try_from(place).ok());
                place.and_then(tree).ok_or("a tree that does not stand before it")?
            }
        };
        self.out.extend(id.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::snapshot::{build_trees, encode_tree};
    use crate::tracked_path::TrackedPath;
    use proptest::prelude::*;

    fn file(content: &[u8], executable: bool) -> Entry {
        Entry::File { id: ObjectId::of(content), bytes: content.len() as u64, executable }
    }

    type Files = HashMap<ObjectId, FileObject>;

    /// A snapshot with every kind of entry, and the files that its pack has.
    fn sample() -> (Vec<(ObjectKind, ObjectId, Vec<u8>)>, Files) {
        let path = |text: &str| TrackedPath::from_bytes(text).expect("valid");
        let entries = BTreeMap::from([
            (path("a.py"), file(b"content", false)),
            (path("b/run.sh"), file(b"script", true)),
            (path("b/empty"), file(b"", false)),
            (path("b/large"), file(&[7; 300], false)),
            (path("c"), Entry::Symlink { target: b"a.py".to_vec() }),
            (path("elsewhere"), file(b"in another pack", false)),
        ]);
        let mut objects: Vec<_> = build_trees(&entries)
            .expect("builds")
            .into_iter()
            .map(|tree| (ObjectKind::Tree, tree.id, tree.bytes))
            .collect();
        let root = objects.last().expect("a root").1;
        let outside = BTreeMap::from([(b"lib".to_vec(), objects[0].1), (b"far".to_vec(), ObjectId([9; 32]))]);
        let snapshot = Snapshot { root, outside }.encode();
        objects.push((ObjectKind::Snapshot, ObjectId::of(&snapshot), snapshot));
        let files = HashMap::from([
            (ObjectId::of(b"content"), FileObject { ordinal: 0, is_list: false }),
            (ObjectId::of(b"script"), FileObject { ordinal: 300, is_list: false }),
            (ObjectId::of(&[7; 300]), FileObject { ordinal: 2, is_list: true }),
        ]);
        (objects, files)
    }

    fn table(files: &Files, ordinal: usize) -> Option<(ObjectId, u64, bool)> {
        let (id, file) = files.iter().find(|(_, file)| file.ordinal as usize == ordinal)?;
        Some((*id, if *id == ObjectId::of(b"content") { 7 } else { 6 }, file.is_list))
    }

    fn encode() -> (Vec<(ObjectKind, ObjectId, u64)>, Vec<u8>) {
        let (objects, files) = sample();
        let mut encoder = DenseEncoder::default();
        for (kind, id, canonical) in &objects {
            match kind {
                ObjectKind::Tree => encoder.add_tree(*id, canonical, &files).expect("a tree"),
                _ => encoder.add_snapshot(*id, canonical).expect("a snapshot"),
            }
        }
        assert_eq!(encoder.canonical_bytes(), objects.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>());
        encoder.finish()
    }

    #[test]
    fn every_kind_of_entry_comes_back() {
        let (objects, files) = sample();
        let (listed, dense) = encode();
        let lengths = listed.iter().map(|(kind, _, bytes)| (*kind, *bytes as usize));
        let canonical = expand(&dense, lengths, |ordinal| table(&files, ordinal)).expect("expands");
        assert_eq!(canonical, objects.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect::<Vec<_>>());
        // Three ids stand in it: those of a file and a tree that are in other packs.
        assert!(dense.len() < canonical.len() - 5 * 32, "{} of {}", dense.len(), canonical.len());
    }

    fn lazily(dense: &[u8], listed: &[(ObjectKind, ObjectId, u64)], files: &Files) -> DecodeResult<DenseFrame> {
        let kinds = listed.iter().map(|(kind, _, _)| *kind);
        DenseFrame::new(dense.to_vec(), kinds, |ordinal| table(files, ordinal).map(|(_, _, is_list)| is_list))
    }

    #[test]
    fn one_object_is_laid_out_with_what_its_id_depends_on() {
        let (objects, files) = sample();
        let (listed, dense) = encode();
        let object = |place: usize| listed.get(place).map(|(kind, _, bytes)| (*kind, *bytes as usize));
        for order in [[0, 1, 2], [2, 1, 0], [2, 0, 1]] {
            let mut frame = lazily(&dense, &listed, &files).expect("a frame");
            for place in order {
                let canonical = frame.object(place, object, |ordinal| table(&files, ordinal)).expect("laid out");
                assert_eq!(*canonical, objects[place].2);
            }
            assert!(frame.object(3, object, |ordinal| table(&files, ordinal)).is_err());
        }
        let mut frame = lazily(&dense, &listed, &files).expect("a frame");
        frame.object(0, object, |ordinal| table(&files, ordinal)).expect("laid out");
        assert_eq!(frame.laid_out.len(), 1, "what nobody asked for is not laid out");
        assert!(frame.object(1, |_| Some((ObjectKind::Tree, 99)), |ordinal| table(&files, ordinal)).is_err());
    }

    /// Each tree is a folder of the next, deeper than any stack.
    #[test]
    fn trees_in_trees_without_end_cost_no_stack() {
        const DEPTH: usize = 300_000;
        let mut dense = vec![0];
        for place in 0..DEPTH as u64 {
            dense.extend([1, Node::FOLDER, 1, b'd']);
            push_varint(&mut dense, place + FIRST);
        }
        let empty = encode_tree(&BTreeMap::new()).len();
        let bytes = |place: usize| if place == 0 { empty } else { empty + 1 + 2 + 1 + 32 };
        let kinds = std::iter::repeat_n(ObjectKind::Tree, DEPTH + 1);
        let mut frame = DenseFrame::new(dense, kinds, |_| None).expect("a frame");
        let last = frame.object(DEPTH, |place| Some((ObjectKind::Tree, bytes(place))), |_| None);
        assert_eq!(last.expect("laid out").len(), bytes(1));
    }

    #[test]
    fn a_tree_in_itself_is_refused() {
        let dense = vec![1, Node::FOLDER, 1, b'd', FIRST as u8];
        let mut frame = DenseFrame::new(dense, [ObjectKind::Tree].into_iter(), |_| None).expect("a frame");
        assert!(frame.object(0, |_| Some((ObjectKind::Tree, 51)), |_| None).is_err());
    }

    #[test]
    fn what_is_not_in_the_table_is_an_error() {
        let (listed, dense) = encode();
        let lengths = || listed.iter().map(|(kind, _, bytes)| (*kind, *bytes as usize));
        assert!(expand(&dense, lengths(), |_| None).is_err());
        assert!(expand(&dense, lengths().skip(1), |_| Some((ObjectId([1; 32]), 1, false))).is_err());
        let empty = encode_tree(&BTreeMap::new());
        assert!(expand(&[0], [(ObjectKind::Tree, empty.len())].into_iter(), |_| None).is_ok());
        assert!(expand(&[0, 0], [(ObjectKind::Tree, empty.len())].into_iter(), |_| None).is_err());
        assert!(expand(&[0], [(ObjectKind::Chunk, empty.len())].into_iter(), |_| None).is_err());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..1000, byte in any::<u8>(), cut in 0usize..1000) {
            let (_, files) = sample();
            let (listed, mut dense) = encode();
            let length = dense.len();
            dense[at % length] = byte;
            dense.truncate(length - cut % length);
            let lengths = listed.iter().map(|(kind, _, bytes)| (*kind, *bytes as usize));
            let whole = expand(&dense, lengths, |ordinal| table(&files, ordinal));
            // One after the other gives the same as all at once.
            let object = |place: usize| listed.get(place).map(|(kind, _, bytes)| (*kind, *bytes as usize));
            let one_by_one = lazily(&dense, &listed, &files).and_then(|mut frame| {
                let objects = (0..listed.len()).map(|place| frame.object(place, object, |o| table(&files, o)));
                Ok(objects.collect::<DecodeResult<Vec<_>>>()?.iter().flat_map(|bytes| bytes.to_vec()).collect())
            });
            match whole {
                Ok(whole) => prop_assert_eq!(one_by_one, Ok(whole)),
                Err(_) => prop_assert!(one_by_one.is_err()),
            }
        }
    }
}
