//! The test vectors in `tests/vectors/`: encrypted drops with their expected rows or failure, created by another
//! implementation.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::secrets::Secrets;

/// A test vector: a folder with a drop, its keys, and what is expected.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) about: About,
}

/// The contents of `case.json`.
#[derive(Deserialize)]
pub(crate) struct About {
    /// What the case tests.
    pub(crate) why: String,
    /// Further flags for `decode`.
    pub(crate) flags: Vec<String>,
    /// Where the wrapped keys are: `api` or `metadata`.
    pub(crate) keys: String,
    /// The expected exit code of `decode`.
    pub(crate) exit: i32,
    /// Why the drop is invalid, if `exit` is not 0.
    pub(crate) reason: Option<String>,
}

/// The contents of `secrets.json`.
#[derive(Deserialize)]
struct SecretsOfCase {
    /// AES keys, in hexadecimal.
    keys: Vec<String>,
    /// Values from rows.
    texts: Vec<String>,
}

/// All cases, sorted by name.
pub(crate) fn cases() -> Vec<Case> {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")).unwrap();
    let mut cases: Vec<Case> = folders.map(|folder| Case::read(folder.unwrap().path())).collect();
    assert!(!cases.is_empty(), "there are no test vectors");
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// The case with this name.
pub(crate) fn case(name: &str) -> Case {
    Case::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name))
}

impl Case {
    fn read(folder: PathBuf) -> Self {
        let about = fs::read(folder.join("case.json")).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let about = serde_json::from_slice(&about).unwrap();
        Self { name: folder.file_name().unwrap().to_str().unwrap().to_owned(), folder, about }
    }

    /// The folder of the drop.
    pub(crate) fn drop(&self) -> PathBuf {
        self.folder.join("drop")
    }

    /// The path of the private key.
    pub(crate) fn private_key(&self) -> PathBuf {
        self.folder.join("private-key.pem")
    }

    /// The saved response of the Viva Insights API, if the case takes its keys from there.
    pub(crate) fn decryption_keys(&self) -> Option<PathBuf> {
        (self.about.keys == "api").then(|| self.folder.join("decryption-keys.json"))
    }

    /// The expected rows, one per line; empty if the drop is invalid.
    pub(crate) fn expected(&self) -> String {
        if self.about.exit == 0 {
            fs::read_to_string(self.folder.join("expected.ndjson")).unwrap()
        } else {
            String::new()
        }
    }

    /// The keys and values of the case, which no output except the rows may contain.
    pub(crate) fn secrets(&self) -> Secrets {
        let of_case: SecretsOfCase =
            serde_json::from_slice(&fs::read(self.folder.join("secrets.json")).unwrap()).unwrap();
        let secrets = Secrets::default();
        for key in of_case.keys {
            let digits = (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap());
            secrets.add_key(&digits.collect::<Vec<_>>());
        }
        of_case.texts.into_iter().for_each(|text| secrets.add("a value of a row", text));
        secrets.add_pem(&fs::read_to_string(self.private_key()).unwrap());
        secrets
    }
}

/// The names of all files below `folder`, relative to it and with `/`, and their bytes.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
            contents.insert(name, fs::read(path).unwrap());
        }
    }
    contents
}
