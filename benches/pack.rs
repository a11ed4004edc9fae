//! Packs: compressing frames, writing a pack, reading one object out of it.

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use runsnap::id::{ObjectId, StoreId};
use runsnap::pack::compression::CAPTURE_LEVEL;
use runsnap::pack::format::{ObjectKind, Prefix};
use runsnap::pack::{Pack, PackWriter, PreparedFrame};
use runsnap::storage::{LocalStorage, Storage};

const STORE: StoreId = StoreId([7; 16]);
/// The contents of one solid frame.
const CONTENTS: u64 = 256;
const CONTENT_BYTES: usize = 8_000;

type Object<'c> = (ObjectKind, ObjectId, &'c [u8]);

fn solid(objects: &[Object<'_>]) -> PreparedFrame {
    PreparedFrame::new(objects, Prefix::None, &[], 0, CAPTURE_LEVEL)
}

fn pack(criterion: &mut Criterion) {
    let contents: Vec<Vec<u8>> = (0..CONTENTS).map(|seed| support::source(seed, CONTENT_BYTES)).collect();
    let objects: Vec<Object<'_>> =
        contents.iter().map(|content| (ObjectKind::Chunk, ObjectId::of(content), content.as_slice())).collect();
    let bytes: u64 = contents.iter().map(|content| content.len() as u64).sum();
    let mut group = criterion.benchmark_group("pack");

    group.throughput(Throughput::Bytes(bytes));
    group
        .bench_function("prepare a solid frame of 256 contents", |bencher| bencher.iter(|| solid(black_box(&objects))));

    let (old, mut new) = (support::source(1, 20_000), support::source(1, 20_000));
    new.extend(b"\nEDITION = 2\n");
    let one = [(ObjectKind::Chunk, ObjectId::of(&new), new.as_slice())];
    group.throughput(Throughput::Bytes(new.len() as u64));
    group.bench_function("prepare a difference to an older version", |bencher| {
        let prefix = Prefix::Anywhere(ObjectId::of(&old).key());
        bencher.iter(|| PreparedFrame::new(black_box(&one), prefix, &old, 1, CAPTURE_LEVEL));
    });

    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage = LocalStorage::new(folder.path());
    let frame = solid(&objects);
    let mut packs = 0;
    let mut write = |frame: PreparedFrame| {
        packs += 1;
        let mut writer = PackWriter::create(&storage, format!("{packs}.tmp"), STORE, 0).expect("created");
        writer.add(frame).expect("written");
        writer.finish(&format!("{packs}.pack")).expect("flushed").path
    };
    let path = write(frame.clone());
    group.throughput(Throughput::Bytes(storage.length(&path).expect("written")));
    group.bench_function("write and flush a pack", |bencher| {
        bencher.iter_batched(|| frame.clone(), &mut write, BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(1));
    group.bench_function("open a pack", |bencher| bencher.iter(|| Pack::open(&storage, &path).expect("whole")));
    let opened = Pack::open(&storage, &path).expect("whole");
    group.bench_function("read one object of a solid frame", |bencher| {
        let object = opened.objects.last().expect("it has objects");
        let frame = opened.frames.get(object.frame).expect("it has frames");
        bencher.iter(|| {
            let raw = opened.read_frame(&storage, frame, &[]).expect("decodes");
            let content = raw.get(object.offset..object.offset + object.bytes).expect("in the frame");
            assert!(object.is_hash_of(content));
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = pack);
criterion_main!(benches);
