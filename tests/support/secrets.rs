//! What no output may show: keys, private keys, passwords, the content of rows.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

/// Secrets in every spelling in which they might slip out. Clones share what they know.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Secrets {
    /// `text`, which is `what`.
    pub(crate) fn add(&self, what: &'static str, text: impl Into<String>) {
        let text = text.into();
        assert!(text.len() >= 4, "so short a {what} is anywhere by chance");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((what, text));
    }

    /// An AES key: its digits, its Base64, and the lists that `Debug` makes of bytes.
    pub(crate) fn add_key(&self, key: &[u8]) {
        let hex = key.iter().fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
        let base64 = BASE64_STANDARD_NO_PAD.encode(key);
        let list = |spell: fn(&u8) -> String| key.iter().map(spell).collect::<Vec<_>>().join(", ");
        let spellings = [
            hex.to_uppercase(),
            hex,
            base64.replace('+', "-").replace('/', "_"),
            base64,
            list(u8::to_string),
            list(|byte| format!("{byte:x}")),
            list(|byte| format!("0x{byte:02x}")),
        ];
        spellings.into_iter().for_each(|spelling| self.add("an AES key", spelling));
    }

    /// A private key in PEM: each of its lines.
    pub(crate) fn add_pem(&self, pem: &str) {
        for line in pem.lines().filter(|line| line.len() >= 32 && !line.starts_with('-')) {
            self.add("a private key", line);
        }
    }

    /// Fails where `output` shows one of them.
    pub(crate) fn check(&self, output: &str) {
        let shown = self.shown_in(output);
        assert_eq!(shown, None, "this is shown, and must not be");
    }

    /// Which of them `output` shows.
    pub(crate) fn shown_in(&self, output: &str) -> Option<&'static str> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().find(|(_, text)| output.contains(text.as_str())).map(|(what, _)| *what)
    }
}
