//! Runs the checks of the fuzzers in every test run: the seeds in `fuzz/corpus/`, and mutations of each, must not
//! violate the properties in `fuzz/src/`. `make fuzz` searches longer.

#![expect(clippy::unwrap_used, reason = "a panic is a good failure message in a test")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    thread,
};

use fastrand::Rng;

#[expect(unreachable_pub, reason = "the fuzzers use this module as a library")]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use checks::{CHECKS, Check};

/// How many mutations of each seed are tried.
const MUTATIONS: u64 = 60;

#[test]
fn seeds_and_their_mutations_violate_no_property() {
    let failures: Vec<String> = thread::scope(|scope| {
        let checks = CHECKS.map(|(name, check)| scope.spawn(move || first_failure(name, check)));
        checks.into_iter().filter_map(|check| check.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_check_has_a_target_and_seeds() {
    let names: BTreeSet<_> = CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz/corpus"), names);
    let targets: BTreeSet<_> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in("fuzz/targets"), targets);
    assert!(names.iter().all(|name| seeds(name).len() >= 2));
}

/// Runs a check until it fails; saves the bytes that made it fail, and returns a message that names their file.
fn first_failure(name: &str, check: Check) -> Option<String> {
    let seeds = seeds(name);
    for seed in &seeds {
        let mutations = (0..MUTATIONS).map(|number| {
            let other = &seeds[number as usize % seeds.len()];
            mutated(seed, other, &mut Rng::with_seed(number))
        });
        for bytes in std::iter::once(seed.clone()).chain(mutations) {
            if catch_unwind(|| check(&bytes)).is_err() {
                let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fails-{name}"));
                fs::write(&file, bytes).unwrap();
                return Some(format!("check `{name}` fails for the bytes in {}: see the panic above", file.display()));
            }
        }
    }
    None
}

/// The seeds of a check, in the order of their file names. Seeds have a file extension; the files that a fuzzer adds to
/// the folder have none.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(path("fuzz/corpus").join(name)).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Changes `bytes` in a few places, as damage or an attacker would. May insert parts of `other`.
fn mutated(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    /// Bytes that have a meaning in JSON, gzip, text or settings.
    const SPECIAL: &[u8] = b"\"\\{}[]:,\n\r 019.-eEut=/+\0\x1F\x8B\xEF\xBB\xBF\xFF";
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(0..=bytes.len());
        let end = (at + rng.usize(0..24)).min(bytes.len());
        match rng.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 if at < bytes.len() => bytes[at] = SPECIAL[rng.usize(..SPECIAL.len())],
            2 => bytes.insert(at, SPECIAL[rng.usize(..SPECIAL.len())]),
            3 => bytes.insert(at, rng.u8(..)),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.extend_from_within(at..end),
            6 => bytes.truncate(at),
            _ => {
                let from = rng.usize(0..=other.len());
                let to = (from + rng.usize(0..64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

/// The names of the files and folders in a folder of the repository.
fn names_in(folder: &str) -> BTreeSet<String> {
    let files = fs::read_dir(path(folder)).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// A path in the repository.
fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}
