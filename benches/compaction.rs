//! compaction: what captures merge by the way, and `gc` of all.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use runsnap::operations::capture::capture;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::store::Store;
use support::Project;

/// So many edits are captured, each in a pack of its own until eight of them are merged.
const EDITS: u64 = 7;

/// Copies a store as it stands.
fn copied(from: &Path, to: PathBuf) -> PathBuf {
    fs::create_dir_all(&to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
    to
}

fn compactions(criterion: &mut Criterion) {
    let project = Project::new();
    let folder = project.beside("store");
    let (store, _) = Store::init(&folder).expect("a new store");
    // One pack less than are merged by themselves.
    for _ in 0..EDITS {
        capture(&store, &project.capture_options(), &()).expect("captured");
        project.edit(42);
    }
    drop(store);
    let mut group = criterion.benchmark_group("compaction");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes(project.bytes()));

    group.bench_function("the capture that merges eight packs", |bencher| {
        let copy = || {
            let folder = copied(&folder, project.beside("copy"));
            project.edit(43);
            folder
        };
        let merge = |folder: PathBuf| {
            let store = Store::open(&folder).expect("a store");
            capture(&store, &project.capture_options(), &()).expect("captured");
        };
        bencher.iter_batched(copy, merge, BatchSize::PerIteration);
    });

    group.bench_function("gc", |bencher| {
        let copy = || copied(&folder, project.beside("copy"));
        let collect = |folder: PathBuf| {
            let store = Store::open(&folder).expect("a store");
            gc(&store, GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("collected");
        };
        bencher.iter_batched(copy, collect, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = compactions);
criterion_main!(benches);
