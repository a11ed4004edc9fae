//! Any bytes as a Python source: they are read or refused, and what is found goes through the cache's bytes unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runsnap::decode::Decoder;
use runsnap::python::source::{Scan, Target, scan};

fuzz_target!(|bytes: &[u8]| {
    let target = Target { version: (3, 12), platform: "linux".into(), os_name: "posix".into() };
    let found = scan(bytes, &target);
    let mut encoded = Vec::new();
    found.encode(&mut encoded);
    assert_eq!(Scan::decode(&mut Decoder::new(&encoded)), Ok(found));
    let _ = Scan::decode(&mut Decoder::new(bytes));
});
