//! What fuzzers look into, in every run of the tests: the seeds of `fuzz/corpus/`, and changed forms of each, keep the
//! promises that `fuzz/src/` checks. `make fuzz` looks further.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    thread,
};

use fastrand::Rng;

#[expect(unreachable_pub, reason = "to the fuzzers it is a library")]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use checks::{CHECKS, Check};

/// How many changed forms of each seed are tried.
const CHANGED_FORMS: u64 = 60;

#[test]
fn seeds_and_changed_forms_of_them_keep_what_is_promised() {
    let broken: Vec<String> = thread::scope(|scope| {
        let checks = CHECKS.map(|(name, check)| scope.spawn(move || broken(name, check)));
        checks.into_iter().filter_map(|check| check.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_check_has_a_target_and_seeds() {
    let names: BTreeSet<_> = CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz/corpus"), names);
    let targets: BTreeSet<_> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in("fuzz/targets"), targets);
    assert!(names.iter().all(|name| seeds(name).len() >= 2));
}

/// What a check says of the first bytes that break its promise, and where they are kept.
fn broken(name: &str, check: Check) -> Option<String> {
    let seeds = seeds(name);
    let changed = |(seed, number): (&(PathBuf, Vec<u8>), u64)| {
        let other = &seeds[number as usize % seeds.len()].1;
        changed(&seed.1, other, &mut Rng::with_seed(number))
    };
    let forms = seeds.iter().flat_map(|seed| (0..CHANGED_FORMS).map(move |number| (seed, number))).map(changed);
    let tried = seeds.iter().map(|(_, bytes)| bytes.clone()).chain(forms);
    tried.into_iter().find(|bytes| catch_unwind(|| check(bytes)).is_err()).map(|bytes| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("breaks-{name}"));
        fs::write(&kept, bytes).unwrap();
        format!("`{name}` does not keep its promise for the bytes in {}: see the panic above", kept.display())
    })
}

/// The seeds of a check, by name. They have an extension; what a fuzzer adds to the folder has none.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(at("fuzz/corpus").join(name)).unwrap().map(|file| file.unwrap().path());
    let mut seeds: Vec<_> = files
        .filter(|path| path.extension().is_some())
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    seeds.sort();
    seeds
}

/// `bytes` changed in a few places, as bytes go wrong and as somebody would who tries.
fn changed(bytes: &[u8], other: &[u8], chance: &mut Rng) -> Vec<u8> {
    const TELLING: &[u8] = b"\"\\{}[]:,\n\r 019.-eEut=/+\0\x1F\x8B\xEF\xBB\xBF\xFF";
    let mut bytes = bytes.to_vec();
    for _ in 0..chance.usize(1..=4) {
        let at = chance.usize(0..=bytes.len());
        let end = (at + chance.usize(0..24)).min(bytes.len());
        match chance.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.u8(..8),
            1 if at < bytes.len() => bytes[at] = TELLING[chance.usize(..TELLING.len())],
            2 => bytes.insert(at, TELLING[chance.usize(..TELLING.len())]),
            3 => bytes.insert(at, chance.u8(..)),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.extend_from_within(at..end),
            6 => bytes.truncate(at),
            _ => {
                let from = chance.usize(0..=other.len());
                let to = (from + chance.usize(0..64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

fn names_in(folder: &str) -> BTreeSet<String> {
    let files = fs::read_dir(at(folder)).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
