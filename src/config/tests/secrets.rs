//! What errors and debug output say of values that may be secrets.

use super::*;

/// The settings in the tables of the README and of `docs/telemetry.md`, and an old name.
fn all_settings() -> Vec<String> {
    let readme = include_str!("../../../README.md").split("\n## ").find(|section| section.starts_with("Settings\n"));
    let telemetry = include_str!("../../../docs/telemetry.md");
    let rows = [readme.unwrap(), telemetry]
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.starts_with("| `") && !line.contains("_…"));
    let mut settings = vec!["COLUMNS".to_owned()];
    for row in rows {
        let names: Vec<_> = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        // A name such as `__clientId` continues the first name of its row.
        let whole =
            |name: &&str| if name.starts_with("__") { format!("{}{name}", names[0]) } else { (*name).to_owned() };
        settings.extend(names.iter().map(whole));
    }
    settings
}

/// A secret in the forms in which it may end up in a setting, by mistake in the form or in the name of the setting.
fn shapes_of(secret: &str) -> Vec<String> {
    let tenants = format!(
        r#"{{"{TENANT}": {{"DELIVER_TO": "https://a.example/?code={secret}", "WEBHOOK_SECRET": "{secret}"}}}}"#
    );
    vec![
        secret.to_owned(),
        format!("'{secret}'"),
        format!("\"{secret}"),
        format!("12{secret}"),
        format!("1{secret}s"),
        format!("@{secret}"),
        format!("*{secret}"),
        format!("{secret},{secret}"),
        format!("{TENANT},{secret}"),
        format!("{TENANT}={secret}//a"),
        format!("{TENANT}={secret}*"),
        format!("{secret}={secret}"),
        format!("AccountName=acct;AccountKey={secret};EndpointSuffix=;{secret}"),
        format!("BlobEndpoint=ftp://{secret};SharedAccessSignature=sv=1&sig={secret}"),
        format!("https://user:{secret}@example.com/?sig={secret}"),
        format!("http://{secret}.example.com/{secret}"),
        format!("file://{secret}/{secret}"),
        format!("queue://{secret}_"),
        format!("ftp://{secret}"),
        format!("@Microsoft.KeyVault({secret})"),
        format!("@Microsoft.KeyVault(SecretUri={secret})"),
        format!("'{tenants}'"),
        format!("\u{feff}{tenants}"),
        format!("\u{feff}'{tenants}'"),
        format!("[{tenants}]"),
        serde_json::Value::from(tenants.as_str()).to_string(),
        tenants[..tenants.len() - 2].to_owned(),
        format!(r#"{{"{secret}": {{}}}}"#),
        format!(r#"{{"{TENANT}": {{"{secret}": "{secret}"}}}}"#),
        format!(r#"{{"{TENANT}": {{"path": "{secret}//{secret}"}}}}"#),
        format!(r#"{{"{TENANT}": {{"path": "{secret}*"}}}}"#),
        format!(r#"{{"{TENANT}": {{"IN_FLIGHT": "{secret}", "FILE_LAYOUT": "{secret}", "SinkStorage": "{secret}"}}}}"#),
        format!(r#"{{"{TENANT}": {{"IN_FLIGHT": ["{secret}"]}}, "{TENANT}": "{secret}"}}"#),
    ]
}

#[test]
fn no_error_about_a_setting_repeats_a_secret_in_it() {
    let errors = |name: &str, value: &str| {
        // Folders, because the client of an account takes milliseconds to create.
        let mut changed = settings(&[("DropStorage", "file:///tmp"), (name, value)]);
        let mut errors = vec![
            Config::read(&changed).err(),
            DecodeConfig::read(&changed).err(),
            UploadConfig::read(&changed).err(),
            OnboardConfig::read(&changed).err(),
        ];
        if name.starts_with("SinkStorage") {
            changed.set("DELIVER_TO", "queue://rows");
            errors.push(Config::read(&changed).err());
        }
        errors.into_iter().flatten().map(|error| format!("{error} {error:?}")).collect::<String>()
    };
    for secret in [SECRET, "hunter2", "8Q~abc-def_ghi.jkl"] {
        for shape in shapes_of(secret) {
            for name in all_settings() {
                let is_json = shape.contains(TENANT) && shape.contains('{');
                if !is_json || name == "TENANTS" {
                    let text = errors(&name, &shape);
                    assert!(!text.contains(secret), "{name}={shape}: {text}");
                }
            }
        }
    }
}

#[test]
fn only_words_numbers_and_durations_are_repeated() {
    let problem = |name, value| problems(&[(name, value)]).remove(0);
    for (name, value) in [("IN_FLIGHT", "many"), ("BATCH_ROWS", "-1"), ("DEADLINE", "25min"), ("FILE_LAYOUT", "gzip")] {
        assert!(problem(name, value).starts_with(&format!("{name} is `{value}`: expected ")), "{name}");
    }
    for (name, value) in [("IN_FLIGHT", "hunter2"), ("DEADLINE", "https://a"), ("DROP_CONTAINER", "Sets")] {
        assert!(problem(name, value).starts_with(&format!("{name} is not usable: expected ")), "{name}");
    }
}

#[test]
fn a_secret_in_the_wrong_setting_is_not_shown() {
    for (name, value) in [
        ("DELIVER_TO", "ftp://user:hunter2@example.com"),
        ("DELIVER_TO", "whsec_hunter2"),
        ("DELIVER_TO", "htps://chat.example/services/hunter2"),
        ("DELIVER_TO", "chat.example/services/hunter2"),
        ("DELIVER_TO", "http://chat.example/services/hunter2"),
        ("VIVA_API_URL", "https//user:hunter2@example.com"),
        ("PRIVATE_KEYS", "https://user:hunter2@example.com"),
        ("DropStorage", "file://host/dir?sig=hunter2"),
    ] {
        let problems = problems(&[(name, value)]);
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn neither_problems_nor_debug_output_contain_secrets() {
    let changes = [
        ("DropStorage", "AccountName=x;AccountKey=c2VjcmV0LXNlY3JldA;BlobEndpoint=ftp://x"),
        ("DELIVER_TO", "https://user:c2VjcmV0LXNlY3JldA@example.com/?code=c2VjcmV0LXNlY3JldA"),
        ("WEBHOOK_SECRET", "c2VjcmV0LXNlY3JldA"),
        ("PARTNER_APP_SECRET", "c2VjcmV0LXNlY3JldA"),
    ];
    let report = Config::read(&settings(&changes)).unwrap_err().to_string();
    assert!(!report.contains("c2VjcmV0"), "{report}");
    let debug = format!("{:?} {:?}", settings(&changes), Config::read(&settings(&[])));
    assert!(!debug.contains("c2VjcmV0"), "{debug}");
}

#[test]
fn a_tenant_id_that_is_a_secret_is_not_shown_later() {
    // The library that requests tokens quotes a tenant id that it rejects.
    let ids = |prefix: &str, secret: &str| {
        let app = if prefix == "AZURE" { "AZURE_CLIENT_ID" } else { "PARTNER_APP_ID" }.to_owned();
        [(format!("{prefix}_TENANT_ID"), "8Q~abc"), (app, TENANT), (secret.to_owned(), "hunter2")]
    };
    for (prefix, secret) in [("AZURE", "AZURE_CLIENT_SECRET"), ("PARTNER", "PARTNER_APP_SECRET")] {
        let ids = ids(prefix, secret);
        let expected = "expected a GUID, or a domain such as contoso.onmicrosoft.com";
        let problems = problems(&ids.each_ref().map(|(name, value)| (name.as_str(), *value)));
        assert_eq!(problems, [format!("{prefix}_TENANT_ID is not usable: {expected}")]);
    }
}
