//! Settings: lines of `NAME=value`, including `TENANTS` and its JSON form. Either they are valid or the problems are
//! reported, and the output never contains a secret that is in its own setting.

use vivadrop::{
    config::{Config, DecodeConfig, Settings},
    error_chain::error_chain,
};

/// The settings that the lines do not set.
const DEFAULTS: [(&str, &str); 8] = [
    ("DropStorage", "file:///tmp"),
    ("TENANTS", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
    ("PRIVATE_KEYS", "file:///keys"),
    ("DELIVER_TO", "https://example.com/rows"),
    ("WEBHOOK_SECRET", WEBHOOK_SECRET),
    ("PARTNER_TENANT_ID", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
    ("PARTNER_APP_ID", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e11"),
    ("PARTNER_APP_SECRET", APP_SECRET),
];

/// The example of the Standard Webhooks specification.
const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const APP_SECRET: &str = "neither-shown-nor-said";

/// Reads the bytes as settings.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut settings: Settings = DEFAULTS.into_iter().collect();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // This value names a file on this machine.
        if name == "TENANTS" && value.trim().starts_with('@') {
            return;
        }
        settings.set(name, value);
    }
    let config = Config::read(&settings).map(|config| format!("{config:?}"));
    let decode = DecodeConfig::read(&settings).map(|config| format!("{config:?}"));
    for result in [config, decode] {
        let output = result.unwrap_or_else(|error| {
            assert!(!error.0.is_empty(), "the settings are invalid, but no problem is reported");
            error_chain(&error)
        });
        for secret in [WEBHOOK_SECRET, APP_SECRET] {
            assert!(text.contains(secret) || !output.contains(secret), "the output contains a secret: {output}");
        }
    }
    // The debug output of settings has only their names.
    assert!(!format!("{settings:?}").contains(APP_SECRET) || text.contains(APP_SECRET), "the output contains a secret");
}
