//! Settings: lines of `NAME=value`, `TENANTS` and its JSON among them. They are usable or said not to be, and no secret that
//! was in its place is shown either way.

use vivadrop::{
    config::{Config, DecodeConfig, Settings},
    error_chain::error_chain,
};

/// What is set where the lines say nothing else.
const SET: [(&str, &str); 8] = [
    ("DropStorage", "file:///drops"),
    ("TENANTS", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
    ("PRIVATE_KEYS", "file:///keys"),
    ("DELIVER_TO", "https://example.com/rows"),
    ("WEBHOOK_SECRET", WEBHOOK_SECRET),
    ("PARTNER_TENANT_ID", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
    ("PARTNER_APP_ID", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e11"),
    ("PARTNER_APP_SECRET", APP_SECRET),
];

/// The Standard Webhooks specification's own example.
const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const APP_SECRET: &str = "neither-shown-nor-said";

/// Reads the bytes as settings.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut settings: Settings = SET.into_iter().collect();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // That names a file of this machine.
        if name == "TENANTS" && value.trim().starts_with('@') {
            return;
        }
        settings.set(name, value);
    }
    let config = Config::read(&settings).map(|config| format!("{config:?}"));
    let decode = DecodeConfig::read(&settings).map(|config| format!("{config:?}"));
    for said in [config, decode] {
        let said = said.unwrap_or_else(|not_usable| {
            assert!(!not_usable.0.is_empty(), "not usable, and not why");
            error_chain(&not_usable)
        });
        for secret in [WEBHOOK_SECRET, APP_SECRET] {
            assert!(text.contains(secret) || !said.contains(secret), "a secret is shown: {said}");
        }
    }
    // Settings have names to be shown by.
    assert!(!format!("{settings:?}").contains(APP_SECRET) || text.contains(APP_SECRET), "a secret is shown");
}
