//! The formats as schema/ writes them down, held against the code that reads them.

use std::fs;
use std::sync::Arc;

use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;
use runsnap::pack::Pack;
use runsnap::pack::format::ObjectKind;
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::Store;
use serde_json::Value;

const PACK: &str = "packs/0123456789abcdef.pack";
const PACK_MD: &str = include_str!("../../schema/pack.md");

/// The first fenced block of a language in a document.
fn block<'t>(text: &'t str, language: &str) -> &'t str {
    let fence = format!("```{language}\n");
    let start = text.find(&fence).expect("the block is there") + fence.len();
    let length = text[start..].find("\n```").expect("the block ends");
    &text[start..start + length]
}

/// The bytes of the worked example: two hexadecimal digits each, `#` begins a comment.
fn example() -> Vec<u8> {
    let digits = |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let bytes = block(PACK_MD, "hex").lines().flat_map(digits);
    bytes.map(|pair| u8::from_str_radix(&pair, 16).unwrap_or_else(|_| panic!("{pair:?} is no byte"))).collect()
}

/// A store that holds nothing but the given pack, under the id that the pack names.
fn store_with(pack: &[u8]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["packs", "runs", "writers", "tmp"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    fs::write(folder.path().join(PACK), pack).expect("written");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
    let (store, _) = Store::init_in(storage, Chunker::default()).expect("opens");
    (folder, store)
}

fn kind(word: &str) -> ObjectKind {
    match word {
        "chunk" => ObjectKind::Chunk,
        "chunk list" | "chunk_list" => ObjectKind::ChunkList,
        "tree" => ObjectKind::Tree,
        "snapshot" => ObjectKind::Snapshot,
        other => panic!("{other:?} is no kind of object"),
    }
}

/// The objects that the document says are in the example.
fn documented() -> Vec<(ObjectKind, ObjectId, Vec<u8>)> {
    let objects: Vec<Value> = serde_json::from_str(block(PACK_MD, "json")).expect("JSON");
    let content = |object: &Value| match (&object["content_utf8"], &object["content_hex"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(hex)) => {
            hex.as_bytes().chunks(2).map(|p| u8::from_str_radix(str::from_utf8(p).expect("ASCII"), 16).expect("hex")).collect()
        }
        _ => panic!("{object} has no content"),
    };
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    objects.iter().map(|o| (kind(&text(&o["kind"])), text(&o["id"]).parse().expect("an id"), content(o))).collect()
}

#[test]
fn the_worked_example_of_a_pack_decodes() {
    let (folder, store) = store_with(&example());
    let pack = Pack::open(&LocalStorage::new(folder.path()), PACK).expect("a pack");
    let found: Vec<_> = pack.objects.iter().map(|object| (object.kind, object.id)).collect();
    let documented = documented();
    assert!(documented.len() >= 5);
    assert_eq!(found, documented.iter().map(|(kind, id, _)| (*kind, *id)).collect::<Vec<_>>());
    for (kind, id, content) in documented {
        assert_eq!(&store.object(kind, id).expect("readable")[..], content, "{id}");
    }
}

#[test]
fn every_flipped_bit_of_the_example_is_noticed() {
    let whole = example();
    let expected = documented();
    let (folder, _) = store_with(&whole);
    for bit in 0..whole.len() * 8 {
        let mut hurt = whole.clone();
        hurt[bit / 8] ^= 1 << (bit % 8);
        fs::write(folder.path().join(PACK), &hurt).expect("written");
        let opens = Pack::open(&LocalStorage::new(folder.path()), PACK).is_ok();
        let all_right = opens
            && Store::open(folder.path()).is_ok_and(|store| {
                let read = |(kind, id, content): &(ObjectKind, ObjectId, Vec<u8>)| match store.object(*kind, *id) {
                    Ok(bytes) => {
                        assert_eq!(&bytes[..], content, "wrong content passed for right: bit {bit}");
                        true
                    }
                    Err(_) => false,
                };
                expected.iter().map(read).fold(true, |all, one| all & one)
            });
        // A zstd frame has a few bits that no decoder looks at; the content is right then.
        if all_right {
            assert!((32..whole.len() - 56).contains(&(bit / 8)), "bit {bit} of header or footer is not checked");
        }
    }
}

#[test]
fn the_index_is_made_by_the_documented_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, _) = Store::init(&folder.path().join("store")).expect("made");
    store.update_index(true).expect("indexed");
    let tables = |connection: &rusqlite::Connection| -> Vec<String> {
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("SQL");
        statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text")).collect()
    };
    let documented = rusqlite::Connection::open_in_memory().expect("SQLite");
    documented.execute_batch(include_str!("../../schema/index.sql")).expect("valid");
    let made = rusqlite::Connection::open(folder.path().join("store/index.sqlite")).expect("there");
    assert_eq!(tables(&made), tables(&documented));
}
