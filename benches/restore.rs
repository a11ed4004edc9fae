//! restore: all files of a run into a new folder, and one file of it into memory.
//!
//! Each opens the store anew, as a process of its own does.

mod support;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use runsnap::operations::capture::capture;
use runsnap::operations::find_run::find_run;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::snapshot::Entry;
use runsnap::store::Store;
use runsnap::tracked_path::TrackedPath;
use support::Project;

/// The project is captured after each of this many edits of the file that is read alone, so that it is in a chain.
const VERSIONS: u64 = 8;
const EDITED: u64 = 42;

fn restores(criterion: &mut Criterion) {
    let project = Project::new();
    let folder = project.beside("store");
    let (store, _) = Store::init(&folder).expect("a new store");
    for _ in 0..VERSIONS {
        capture(&store, &project.capture_options(), &()).expect("captured");
        project.edit(EDITED);
    }
    let last = capture(&store, &project.capture_options(), &()).expect("captured");
    drop(store);
    let mut group = criterion.benchmark_group("restore");
    group.sampling_mode(SamplingMode::Flat);

    group.throughput(Throughput::Bytes(project.bytes()));
    group.bench_function("all files", |bencher| {
        let output = || RestoreOptions { output: project.beside("restored"), ..RestoreOptions::default() };
        let run = |options: RestoreOptions| {
            let store = Store::open(&folder).expect("a store");
            let runs = store.runs().expect("readable");
            let restored =
                restore(&store, &find_run(&runs, "latest", None).expect("a run"), &options, &()).expect("restored");
            assert_eq!((restored.files, restored.problems.len()), (last.files, 0));
        };
        bencher.iter_batched(output, run, BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(1));
    group.bench_function("one file", |bencher| {
        let module = project.module(EDITED);
        let expected = std::fs::read(&module).expect("readable");
        let relative = module.strip_prefix(project.root()).expect("below the root");
        let path = TrackedPath::from_path(relative).expect("a path of a snapshot");
        bencher.iter(|| {
            let store = Store::open(&folder).expect("a store");
            let runs = store.runs().expect("readable");
            let run = find_run(&runs, "latest", None).expect("a run");
            let files = store.files_of(run.start.snapshot).expect("whole");
            let Some(Entry::File { id, bytes, .. }) = files.entries.get(&path) else { unreachable!("it was captured") };
            assert!(store.file(*id, *bytes).expect("whole") == expected);
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = restores);
criterion_main!(benches);
