//! The formats as schema/ writes them down, held against the code that reads them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;
use runsnap::journal::{HEADER_BYTES, Item, decode_record, encode_header, scan};
use runsnap::pack::Pack;
use runsnap::pack::format::{ObjectKind, ObjectName};
use runsnap::run_record::{RunForget, RunRecord};
use runsnap::snapshot::{Snapshot, decode_tree, encode_tree};
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::{Config, Store};
use serde_json::Value;

const PACK: &str = "packs/0123456789abcdef.pack";
const STORE_MD: &str = include_str!("../../schema/store.md");
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
    let digits = |line: &str| {
        line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
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

/// Overwrites one byte of the pack in place.
fn put_byte(folder: &tempfile::TempDir, at: usize, byte: u8) {
    let file = fs::File::options().write(true).open(folder.path().join(PACK)).expect("opens");
    file.write_all_at(&[byte], at as u64).expect("written");
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
        (_, Value::String(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|p| u8::from_str_radix(str::from_utf8(p).expect("ASCII"), 16).expect("hex"))
            .collect(),
        _ => panic!("{object} has no content"),
    };
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    objects.iter().map(|o| (kind(&text(&o["kind"])), text(&o["id"]).parse().expect("an id"), content(o))).collect()
}

#[test]
fn the_worked_example_of_a_pack_decodes() {
    let (folder, store) = store_with(&example());
    let pack = Pack::open(&LocalStorage::new(folder.path()), PACK).expect("a pack");
    let found: Vec<_> = pack.objects.iter().map(|object| (object.kind, object.name)).collect();
    let documented = documented();
    assert!(documented.len() >= 5);
    assert_eq!(found, documented.iter().map(|(kind, id, _)| (*kind, ObjectName::of(*kind, *id))).collect::<Vec<_>>());
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
        put_byte(&folder, bit / 8, whole[bit / 8] ^ (1 << (bit % 8)));
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
        put_byte(&folder, bit / 8, whole[bit / 8]);
    }
}

#[test]
fn every_byte_turned_over_in_the_example_is_noticed() {
    let whole = example();
    let expected = documented();
    let (folder, _) = store_with(&whole);
    for (at, byte) in whole.iter().enumerate() {
        put_byte(&folder, at, byte ^ 0xff);
        let store = Store::open(folder.path()).expect("config.json is whole");
        assert!(expected.iter().any(|(kind, id, _)| store.object(*kind, *id).is_err()), "byte {at}");
        put_byte(&folder, at, *byte);
    }
}

/// The bytes of the `text` block that begins with these: pairs of digits up to two spaces.
fn dump(beginning: &str) -> Vec<u8> {
    let start = STORE_MD.find(&format!("```text\n{beginning}")).expect("the block is there");
    let lines = block(&STORE_MD[start..], "text").lines();
    let pairs = lines.flat_map(|line| line.split("  ").next().unwrap_or_default().split(' '));
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is no byte"))).collect()
}

#[test]
fn the_worked_example_of_a_journal_decodes() {
    let journal = dump("52 55 4e 53 4e 41 50 4a");
    assert_eq!(journal.len(), 131);
    let (head, records) = journal.split_at(HEADER_BYTES);
    assert_eq!(head, encode_header("000102030405060708090a0b0c0d0e0f".parse().expect("an id")));
    let decoded: Vec<RunRecord> = scan(records)
        .map(|item| match item {
            Item::Record { payload, .. } => decode_record(payload).expect("decodes"),
            other => panic!("{other:?}"),
        })
        .collect();
    let run = "18867251edfa00000123456789abcdef".parse().expect("an id");
    assert_eq!(decoded, [RunRecord::Forget(RunForget { run, time: "2026-01-01T00:00:00.000000Z".to_owned() })]);

    // And a whole store takes it for its own: the run is forgotten before it began, so there is none.
    let (folder, store) = store_with(&example());
    drop(store);
    fs::write(folder.path().join("runs/0123456789abcdef.journal"), &journal).expect("written");
    let runs = Store::open(folder.path()).and_then(|store| store.runs()).expect("readable");
    assert_eq!((runs.len(), runs.problems), (0, Vec::new()));
    // A flipped bit is damage or, in the length, the look of an unfinished tail; it is never another record.
    for bit in HEADER_BYTES * 8..journal.len() * 8 {
        let mut hurt = journal.clone();
        hurt[bit / 8] ^= 1 << (bit % 8);
        assert!(!scan(&hurt[HEADER_BYTES..]).any(|item| matches!(item, Item::Record { .. })), "bit {bit}");
    }
}

#[test]
fn the_worked_examples_of_a_tree_and_a_snapshot_decode() {
    let (_, golden) = STORE_MD.split_once("## Golden snapshot").expect("the heading");
    let golden: Value = serde_json::from_str(block(golden, "json")).expect("JSON");
    let tree = dump("72 75 6e 73 6e 61 70 20 74 72 65 65");
    assert_eq!(ObjectId::of(&tree).to_string(), golden["root"].as_str().expect("text"));
    let nodes = decode_tree(&tree).expect("decodes");
    let names: Vec<&[u8]> = nodes.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"latest.py"[..], b"momentum", b"run.sh", b"strategy.py"]);
    assert_eq!(encode_tree(&nodes), tree);
    let snapshot = dump("72 75 6e 73 6e 61 70 20 73 6e 61 70");
    assert_eq!(ObjectId::of(&snapshot).to_string(), golden["snapshot"].as_str().expect("text"));
    let decoded = Snapshot::decode(&snapshot).expect("decodes");
    assert_eq!((decoded.root, decoded.outside.len()), (ObjectId::of(&tree), 0));
    assert_eq!(decoded.encode(), snapshot);
}

/// The text that the page says a config.json is hashed as, and its hash.
#[test]
fn the_worked_example_of_a_checksum_is_right() {
    let start = STORE_MD.find("```text\n{\"format\"").expect("the block is there");
    let text = block(&STORE_MD[start..], "text").trim_end();
    let (_, after) = STORE_MD[start..].split_once("\n```\n").expect("the block ends");
    let hash = after.split('`').nth(1).expect("the hash follows");
    assert_eq!(ObjectId::of(text.as_bytes()).to_string(), hash);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = text.replace("\"checksum\":null", &format!("\"checksum\":\"{hash}\""));
    assert_ne!(whole, text);
    fs::write(folder.path().join("config.json"), whole).expect("written");
    let config = Config::read(&LocalStorage::new(folder.path())).expect("a right checksum");
    assert_eq!(
        (config.store.to_string(), config.chunker),
        ("000102030405060708090a0b0c0d0e0f".to_owned(), Chunker::default())
    );
}

#[test]
fn the_index_is_made_by_the_documented_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, _) = Store::init(&folder.path().join("store")).expect("made");
    store.update_index(true).expect("indexed");
    let tables = |connection: &rusqlite::Connection| -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("SQL");
        statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text")).collect()
    };
    let documented = rusqlite::Connection::open_in_memory().expect("SQLite");
    documented.execute_batch(include_str!("../../schema/index.sql")).expect("valid");
    let made = rusqlite::Connection::open(folder.path().join("store/index.sqlite")).expect("there");
    assert_eq!(tables(&made), tables(&documented));
}
