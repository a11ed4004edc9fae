//! session: a run of unchanged code, one with a run folder, and one after an edit of one file.

mod support;

use std::path::Path;

use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use runsnap::operations::session::{RunOptions, Session, SessionOptions};
use runsnap::store::Store;
use support::Project;

fn open(store: &Path, project: &Project) -> Session {
    let options = project.capture_options();
    let options =
        SessionOptions { target: options.target, include_secrets: false, environment: options.environment, host: None };
    Session::open(Store::init(store).expect("a store").0, options).expect("a session")
}

fn run(number: u64) -> RunOptions {
    let mut run = RunOptions { sweep: Some("grid".to_owned()), ..RunOptions::default() };
    run.params.insert("fast".to_owned(), number.into());
    run
}

fn sessions(criterion: &mut Criterion) {
    let project = Project::new();
    let mut group = criterion.benchmark_group("session");
    group.sampling_mode(SamplingMode::Flat);

    let mut session = open(&project.beside("store"), &project);
    let mut number = 0;
    group.bench_function("unchanged", |bencher| {
        bencher.iter(|| {
            number += 1;
            assert!(!session.capture(&run(number)).expect("captured").has_problems);
        });
    });

    group.bench_function("with a run folder", |bencher| {
        let options = || RunOptions { run_folder: Some(project.beside("runs")), ..run(0) };
        bencher.iter_batched(options, |options| session.capture(&options).expect("captured"), BatchSize::SmallInput);
    });

    group.bench_function("one file changed", |bencher| {
        let edit = || project.edit(42);
        bencher.iter_batched(
            edit,
            |()| assert!(session.capture(&run(0)).expect("captured").new_bytes > 0),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = sessions);
criterion_main!(benches);
