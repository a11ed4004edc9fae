//! Cutting content into chunks and hashing them: what a capture does with every byte of a new large file.

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;

const BYTES: usize = 16 << 20;

fn chunking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunking");
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, mut content) in [("source", support::source(7, BYTES)), ("noise", support::noise(7, BYTES))] {
        content.truncate(BYTES);
        let chunker = Chunker::default();
        group.bench_function(format!("cut {name}"), |bencher| bencher.iter(|| chunker.cut(black_box(&content)).len()));
        group.bench_function(format!("cut and hash {name}"), |bencher| {
            bencher.iter(|| {
                let cuts = chunker.cut(black_box(&content)).into_iter();
                cuts.filter_map(|cut| content.get(cut)).map(ObjectId::of).collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = chunking);
criterion_main!(benches);
