//! capture: the first one of a project, one of unchanged code, and one after an edit of one file.
//!
//! Each opens the store anew, as a process of its own does.

mod support;

use std::path::Path;

use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use runsnap::operations::capture::{Captured, capture};
use runsnap::store::Store;
use support::Project;

fn capture_into(store: &Path, project: &Project) -> Captured {
    let store = Store::open(store).expect("a store");
    capture(&store, &project.capture_options(), &()).expect("captured")
}

fn captures(criterion: &mut Criterion) {
    let project = Project::new();
    let new_store = || {
        let folder = project.beside("store");
        Store::init(&folder).expect("a new store");
        folder
    };
    let mut group = criterion.benchmark_group("capture");
    group.sampling_mode(SamplingMode::Flat);

    group.bench_function("first", |bencher| {
        bencher.iter_batched(new_store, |store| capture_into(&store, &project), BatchSize::PerIteration);
    });

    let store = new_store();
    capture_into(&store, &project);
    group.bench_function("unchanged", |bencher| {
        bencher.iter(|| assert_eq!(capture_into(&store, &project).new_bytes, 0));
    });

    group.bench_function("one file changed", |bencher| {
        let edit = || project.edit(42);
        bencher.iter_batched(edit, |()| assert!(capture_into(&store, &project).new_bytes > 0), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = captures);
criterion_main!(benches);
