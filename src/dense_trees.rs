//! Trees and snapshots in the form in which merged packs keep them.
//!
//! In their canonical encodings the ids are nearly everything, and ids do not compress. Here a file is named by its place
//! in the pack's table, where its id stands anyway, and a tree by its place in the frame; its id follows from its
//! content. `schema/pack.md` describes the bytes.

use std::collections::HashMap;

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

/// Lays out the canonical encodings of `objects`, one after the other, which stand in `dense`.
///
/// `file` tells the id and length of an object of the pack, and whether it is a chunk list, whose length is not the file's.
pub fn expand(
    dense: &[u8],
    objects: impl Iterator<Item = (ObjectKind, usize)>,
    file: impl Fn(usize) -> Option<(ObjectId, u64, bool)>,
) -> DecodeResult<Vec<u8>> {
    let mut expansion = Expansion { decoder: Decoder::new(dense), out: Vec::new(), ids: Vec::new(), end: 0 };
    for (kind, bytes) in objects {
        let start = expansion.out.len();
        expansion.end = start.saturating_add(bytes);
        match kind {
            ObjectKind::Tree => expansion.tree(&file)?,
            ObjectKind::Snapshot => expansion.snapshot()?,
            other => return Err(format!("a {} in a dense frame", other.word())),
        }
        let canonical = expansion.out.get(start..).unwrap_or_default();
        if canonical.len() != bytes {
            return Err(format!("a {} of {} bytes in place of {bytes}", kind.word(), canonical.len()));
        }
        let id = ObjectId::of(canonical);
        expansion.ids.push(id);
    }
    expansion.decoder.finish()?;
    Ok(expansion.out)
}

struct Expansion<'d> {
    decoder: Decoder<'d>,
    out: Vec<u8>,
    ids: Vec<ObjectId>,
    /// No object is laid out beyond the length that the table says.
    end: usize,
}

impl Expansion<'_> {
    fn tree(&mut self, file: &impl Fn(usize) -> Option<(ObjectId, u64, bool)>) -> DecodeResult<()> {
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
                            let (id, bytes, is_list) = file(ordinal).ok_or("a file that is not in the table")?;
                            (id, if is_list { self.decoder.varint()? } else { bytes })
                        }
                    };
                    self.out.extend(bytes.to_le_bytes());
                    self.out.extend(id.0);
                }
                Node::SYMLINK => self.string()?,
                Node::FOLDER => self.reference()?,
                other => return Err(format!("entry kind {other} is unknown")),
            }
            if self.out.len() > self.end {
                return Err("a tree that is longer than the table says".into());
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> DecodeResult<()> {
        self.out.extend(SNAPSHOT_TAG);
        self.reference()?;
        for _ in 0..self.decoder.count(2)? {
            self.string()?;
            self.reference()?;
        }
        Ok(())
    }

    fn string(&mut self) -> DecodeResult<()> {
        let bytes = self.decoder.count(1)?;
        if bytes > usize::from(u16::MAX) {
            return Err(format!("a string of {bytes} bytes"));
        }
        push_string(&mut self.out, self.decoder.take(bytes)?);
        Ok(())
    }

    fn reference(&mut self) -> DecodeResult<()> {
        let id = match self.decoder.varint()? {
            INLINE => ObjectId(self.decoder.array()?),
            place => {
                let place = place.checked_sub(FIRST).and_then(|place| usize::try_from(place).ok());
                *place.and_then(|place| self.ids.get(place)).ok_or("a tree that does not stand before it")?
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
            let _ = expand(&dense, lengths, |ordinal| table(&files, ordinal));
        }
    }
}
