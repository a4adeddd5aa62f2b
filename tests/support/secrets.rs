//! Detects secrets in output: keys, private keys, passwords, and row values.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

/// Secrets in every encoding in which output might contain them. Clones share the secrets.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Secrets {
    /// Adds a secret; `name` describes it in failures.
    pub(crate) fn add(&self, name: &'static str, text: impl Into<String>) {
        let text = text.into();
        assert!(text.len() >= 4, "{name} is too short: output may contain it by chance");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, text));
    }

    /// Adds an AES key in hexadecimal, in Base64, and as the lists that `Debug` prints for bytes.
    pub(crate) fn add_key(&self, key: &[u8]) {
        let hex = key.iter().fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
        let base64 = BASE64_STANDARD_NO_PAD.encode(key);
        let list = |format: fn(&u8) -> String| key.iter().map(format).collect::<Vec<_>>().join(", ");
        let encodings = [
            hex.to_uppercase(),
            hex,
            base64.replace('+', "-").replace('/', "_"),
            base64,
            list(u8::to_string),
            list(|byte| format!("{byte:x}")),
            list(|byte| format!("0x{byte:02x}")),
        ];
        encodings.into_iter().for_each(|text| self.add("an AES key", text));
    }

    /// Adds each line of a private key in PEM.
    pub(crate) fn add_pem(&self, pem: &str) {
        for line in pem.lines().filter(|line| line.len() >= 32 && !line.starts_with('-')) {
            self.add("a private key", line);
        }
    }

    /// Panics if `output` contains a secret.
    pub(crate) fn check(&self, output: &str) {
        assert_eq!(self.shown_in(output), None, "the output contains a secret");
    }

    /// The name of a secret that `output` contains.
    pub(crate) fn shown_in(&self, output: &str) -> Option<&'static str> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().find(|(_, text)| output.contains(text.as_str())).map(|(name, _)| *name)
    }
}
