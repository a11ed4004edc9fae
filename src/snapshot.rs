//! Snapshots and the trees that they are made of: canonical encodings, whose hashes are the ids.
//!
//! `schema/store.md` describes the bytes. Same files, same bytes, same id: no times, owners, absolute paths or chunk
//! sizes enter them.

use std::collections::BTreeMap;

use crate::decode::{DecodeResult, Decoder};
use crate::id::ObjectId;
use crate::tracked_path::{TrackedPath, is_valid_name};

/// What every tree begins with.
pub const TREE_TAG: &[u8] = b"runsnap tree 1\n";
/// What every snapshot begins with.
pub const SNAPSHOT_TAG: &[u8] = b"runsnap snapshot 1\n";
const CHUNKS_TAG: &[u8] = b"runsnap chunks 1\n";

/// Folders nested deeper than this are refused, on capture and when decoding.
pub const MAX_DEPTH: usize = 512;

/// What stands under one name of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// The hash of its content.
        id: ObjectId,
        /// Its length.
        bytes: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link, kept as a link.
    Symlink {
        /// What it points to, as written.
        target: Vec<u8>,
    },
}

impl Entry {
    /// The length of a file, or of a link's target.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => *bytes,
            Self::Symlink { target } => target.len() as u64,
        }
    }
}

/// One entry of one tree: a file, a link or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file or link.
    Entry(Entry),
    /// A folder, by its tree's id.
    Folder(ObjectId),
}

impl Node {
    /// The kind of a regular file.
    pub const FILE: u8 = 1;
    /// The kind of a regular file that its owner may execute.
    pub const EXECUTABLE: u8 = 2;
    /// The kind of a symbolic link.
    pub const SYMLINK: u8 = 3;
    /// The kind of a folder.
    pub const FOLDER: u8 = 4;

    /// The kind, as the encodings have it.
    pub fn kind_byte(&self) -> u8 {
        match self {
            Self::Entry(Entry::File { executable: false, .. }) => Self::FILE,
            Self::Entry(Entry::File { executable: true, .. }) => Self::EXECUTABLE,
            Self::Entry(Entry::Symlink { .. }) => Self::SYMLINK,
            Self::Folder(_) => Self::FOLDER,
        }
    }
}

/// An encoded tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTree {
    /// The folder, `None` for the root.
    pub path: Option<TrackedPath>,
    /// The tree's id.
    pub id: ObjectId,
    /// The canonical encoding.
    pub bytes: Vec<u8>,
}

/// Encodes one tree; the nodes come sorted by name because a `BTreeMap` is.
pub fn encode_tree(nodes: &BTreeMap<Vec<u8>, Node>) -> Vec<u8> {
    let mut out = TREE_TAG.to_vec();
    for (name, node) in nodes {
        out.push(node.kind_byte());
        push_string(&mut out, name);
        match node {
            Node::Entry(Entry::File { id, bytes, .. }) => {
                out.extend(bytes.to_le_bytes());
                out.extend(id.0);
            }
            Node::Entry(Entry::Symlink { target }) => push_string(&mut out, target),
            Node::Folder(id) => out.extend(id.0),
        }
    }
    out
}

/// Decodes one tree, refusing every form but the canonical one.
pub fn decode_tree(bytes: &[u8]) -> DecodeResult<BTreeMap<Vec<u8>, Node>> {
    let mut decoder = Decoder::new(bytes);
    tag(&mut decoder, TREE_TAG, "tree")?;
    let mut nodes = BTreeMap::new();
    while !decoder.is_empty() {
        let kind = decoder.u8()?;
        let name = string(&mut decoder)?;
        if !is_valid_name(name) {
            return Err(format!("{:?} cannot be a file's name", String::from_utf8_lossy(name)));
        }
        if nodes.last_key_value().is_some_and(|(last, _): (&Vec<u8>, _)| last.as_slice() >= name) {
            return Err("names out of order".into());
        }
        let node = match kind {
            Node::FILE | Node::EXECUTABLE => {
                let bytes = decoder.u64()?;
                Node::Entry(Entry::File { bytes, id: ObjectId(decoder.array()?), executable: kind == Node::EXECUTABLE })
            }
            Node::SYMLINK => match string(&mut decoder)? {
                target if is_valid_target(target) => Node::Entry(Entry::Symlink { target: target.to_vec() }),
                _ => return Err("a link that leads nowhere".into()),
            },
            Node::FOLDER => Node::Folder(ObjectId(decoder.array()?)),
            other => return Err(format!("entry kind {other} is unknown")),
        };
        nodes.insert(name.to_vec(), node);
    }
    Ok(nodes)
}

/// Appends a string: its length in two bytes, and its bytes.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Names and link targets are bounded far below 64 KiB where they enter: see TrackedPath and `is_valid_target`.
    out.extend((bytes.len() as u16).to_le_bytes());
    out.extend(bytes);
}

fn string<'a>(decoder: &mut Decoder<'a>) -> DecodeResult<&'a [u8]> {
    let length = decoder.u16()?;
    decoder.take(length.into())
}

fn tag(decoder: &mut Decoder<'_>, tag: &[u8], what: &str) -> DecodeResult<()> {
    if decoder.take(tag.len())? == tag { Ok(()) } else { Err(format!("does not begin as a {what}")) }
}

/// Whether a symbolic link's target can be stored.
pub fn is_valid_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= usize::from(u16::MAX) && !target.contains(&0)
}

/// Builds the trees of a set of files, children before their parents; the last is the root.
///
/// # Errors
///
/// A path that is a file and also a folder of other paths, or one nested deeper than [`MAX_DEPTH`].
pub fn build_trees(entries: &BTreeMap<TrackedPath, Entry>) -> Result<Vec<EncodedTree>, String> {
    #[derive(Default)]
    struct Folder {
        nodes: BTreeMap<Vec<u8>, Node>,
        folders: BTreeMap<Vec<u8>, Folder>,
    }
    fn encode(folder: Folder, path: Option<TrackedPath>, out: &mut Vec<EncodedTree>) -> Result<ObjectId, String> {
        let mut nodes = folder.nodes;
        for (name, child) in folder.folders {
            let below = TrackedPath::in_folder(path.as_ref(), &name);
            let id = encode(child, below, out)?;
            if nodes.insert(name.clone(), Node::Folder(id)).is_some() {
                return Err(format!("{:?} is a file and a folder", String::from_utf8_lossy(&name)));
            }
        }
        let bytes = encode_tree(&nodes);
        let id = ObjectId::of(&bytes);
        out.push(EncodedTree { path, id, bytes });
        Ok(id)
    }
    let mut root = Folder::default();
    for (path, entry) in entries {
        let mut folder = &mut root;
        let mut parts = path.parts().peekable();
        for depth in 0.. {
            let Some(part) = parts.next() else { break };
            if depth >= MAX_DEPTH {
                return Err(format!("{path} is nested over {MAX_DEPTH} folders deep"));
            }
            if parts.peek().is_none() {
                folder.nodes.insert(part.to_vec(), Node::Entry(entry.clone()));
                break;
            }
            folder = folder.folders.entry(part.to_vec()).or_default();
        }
    }
    let mut trees = Vec::new();
    encode(root, None, &mut trees)?;
    Ok(trees)
}

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The project root's tree.
    pub root: ObjectId,
    /// Trees of files outside the root, by label.
    pub outside: BTreeMap<Vec<u8>, ObjectId>,
}

impl Snapshot {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = SNAPSHOT_TAG.to_vec();
        out.extend(self.root.0);
        for (label, tree) in &self.outside {
            push_string(&mut out, label);
            out.extend(tree.0);
        }
        out
    }

    /// Decodes a snapshot, refusing every form but the canonical one.
    pub fn decode(bytes: &[u8]) -> DecodeResult<Self> {
        let mut decoder = Decoder::new(bytes);
        tag(&mut decoder, SNAPSHOT_TAG, "snapshot")?;
        let root = ObjectId(decoder.array()?);
        let mut outside = BTreeMap::new();
        while !decoder.is_empty() {
            let label = string(&mut decoder)?.to_vec();
            if !is_valid_name(&label) || outside.last_key_value().is_some_and(|(last, _)| *last >= label) {
                return Err("outside trees with invalid or unsorted labels".into());
            }
            outside.insert(label, ObjectId(decoder.array()?));
        }
        Ok(Self { root, outside })
    }
}

/// One chunk in the list of a file's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ObjectId,
    /// Its length.
    pub bytes: u32,
}

/// Encodes the chunks of a file that is more than one.
pub fn encode_chunks(chunks: &[ChunkRef]) -> Vec<u8> {
    let mut out = CHUNKS_TAG.to_vec();
    for chunk in chunks {
        out.extend(chunk.bytes.to_le_bytes());
        out.extend(chunk.id.0);
    }
    out
}

/// Decodes a list of chunks.
pub fn decode_chunks(bytes: &[u8]) -> DecodeResult<Vec<ChunkRef>> {
    let mut decoder = Decoder::new(bytes);
    tag(&mut decoder, CHUNKS_TAG, "chunk list")?;
    let mut chunks = Vec::new();
    while !decoder.is_empty() {
        let bytes = decoder.u32()?;
        if bytes == 0 {
            return Err("a chunk without bytes".into());
        }
        chunks.push(ChunkRef { bytes, id: ObjectId(decoder.array()?) });
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TrackedPath {
        TrackedPath::from_bytes(text).expect("valid")
    }

    fn file(content: &[u8]) -> Entry {
        Entry::File { id: ObjectId::of(content), bytes: content.len() as u64, executable: false }
    }

    #[test]
    fn equal_folders_are_one_object() {
        let entries =
            BTreeMap::from([(path("a/x.py"), file(b"1")), (path("b/x.py"), file(b"1")), (path("c"), file(b"2"))]);
        let trees = build_trees(&entries).expect("builds");
        assert_eq!(trees.len(), 3);
        assert_eq!(trees[0].id, trees[1].id);
        assert_eq!(trees[2].path, None);
        let root = decode_tree(&trees[2].bytes).expect("decodes");
        assert_eq!(root.keys().collect::<Vec<_>>(), [&b"a".to_vec(), &b"b".to_vec(), &b"c".to_vec()]);
    }

    #[test]
    fn hostile_trees_are_refused() {
        let tree = |names: &[&[u8]]| {
            let mut bytes = TREE_TAG.to_vec();
            for name in names {
                bytes.push(4);
                push_string(&mut bytes, name);
                bytes.extend([0; 32]);
            }
            decode_tree(&bytes)
        };
        assert!(tree(&[b"a", b"b"]).is_ok());
        for bad in [&[&b".."[..]][..], &[b"."], &[b""], &[b"a/b"], &[b"/etc"], &[b"a\0"], &[b"b", b"a"], &[b"a", b"a"]]
        {
            assert!(tree(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_cannot_be_file_and_folder() {
        assert!(build_trees(&BTreeMap::from([(path("a"), file(b"1")), (path("a/b"), file(b"2"))])).is_err());
        let deep = path(&vec!["d"; MAX_DEPTH + 1].join("/"));
        assert!(build_trees(&BTreeMap::from([(deep, file(b"1"))])).is_err());
    }

    #[test]
    fn snapshots_and_chunk_lists_round_trip() {
        let snapshot = Snapshot {
            root: ObjectId::of(b"root"),
            outside: BTreeMap::from([(b"lib".to_vec(), ObjectId::of(b"1")), (b"site".to_vec(), ObjectId::of(b"2"))]),
        };
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
        let chunks = vec![ChunkRef { id: ObjectId::of(b"a"), bytes: 5 }, ChunkRef { id: ObjectId::of(b"b"), bytes: 6 }];
        assert_eq!(decode_chunks(&encode_chunks(&chunks)), Ok(chunks));
    }

    proptest! {
        #[test]
        fn decoders_accept_only_the_canonical_form(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let with = |tag: &[u8]| [tag, &bytes].concat();
            if let Ok(nodes) = decode_tree(&with(TREE_TAG)) {
                prop_assert_eq!(encode_tree(&nodes), with(TREE_TAG));
            }
            if let Ok(snapshot) = Snapshot::decode(&with(SNAPSHOT_TAG)) {
                prop_assert_eq!(snapshot.encode(), with(SNAPSHOT_TAG));
            }
            if let Ok(chunks) = decode_chunks(&with(CHUNKS_TAG)) {
                prop_assert_eq!(encode_chunks(&chunks), with(CHUNKS_TAG));
            }
        }
    }
}
