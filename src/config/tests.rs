use super::*;
use crate::directory::{DirectoryConfig, DirectoryMode};
use crate::identity::Application;
use crate::pipeline::FileRules;
use crate::stage::decode::ExpectedColumn;

/// The example of the Standard Webhooks specification.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

/// The required settings, with these changes.
fn settings(changes: &[(&str, &str)]) -> Settings {
    let mut settings: Settings = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("TENANTS", TENANT),
        ("PRIVATE_KEYS", "file:///tmp"),
        ("DELIVER_TO", "http://127.0.0.1:9000/rows"),
    ]
    .into_iter()
    .collect();
    for (name, value) in changes {
        settings.set(name, *value);
    }
    settings
}

/// The problems that [`Config::read`] reports.
fn problems(changes: &[(&str, &str)]) -> Vec<String> {
    Config::read(&settings(changes)).unwrap_err().0
}

#[test]
fn the_required_settings_are_enough() {
    let config = Config::read(&settings(&[])).unwrap();
    assert_eq!(config.drop_container, DropContainer::Named("datasets".into()));
    assert_eq!(config.state_container, "vivadrop-state");
    assert_eq!(config.common.rules, FileRules::default());
    assert_eq!(config.common.limits.batch.rows.get(), 500);
    assert_eq!(config.common.limits.in_flight.get(), 8);
    assert_eq!(config.deadline, Duration::from_secs(25 * 60));
    assert_eq!(config.viva_api.scope, "https://api.orginsights.viva.office.com/.default");
}

#[test]
fn all_missing_settings_are_reported_together() {
    let report = Config::read(&Settings::default()).unwrap_err().to_string();
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines[0], "4 settings are not usable");
    for (line, name) in lines[1..].iter().zip(["DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO"]) {
        assert!(line.starts_with(&format!("  {name} is not set: expected ")), "{line}");
    }
}

#[test]
fn each_problem_names_the_setting_and_the_accepted_values() {
    for (name, value) in [
        ("IN_FLIGHT", "many"),
        ("IN_FLIGHT", "0"),
        ("BATCH_ROWS", "-1"),
        ("BATCH_BYTES", "1MiB"),
        ("DECODERS", "0"),
        ("BAD_ROWS_ALLOWED", "some"),
        ("MAX_ROW_BYTES", "0"),
        ("FILE_LAYOUT", "gzip"),
        ("FILE_CIPHER", "gcm"),
        ("COLUMN_CIPHER", "CTR"),
        ("ROW_VALUES", "numbers"),
        ("ALLOW_PLAINTEXT", "yes"),
        ("KEY_WRAP", "RSA"),
        ("TENANTS", "contoso"),
        ("PRIVATE_KEYS", "/keys"),
        ("DELIVER_TO", "ftp://example.com"),
        ("DELIVER_TO", "http://example.com"),
        ("WEBHOOK_GZIP", "1"),
        ("WEBHOOK_TIMEOUT", "30"),
        ("DELIVERY_PATIENCE", "0s"),
        ("DEADLINE", "soon"),
        ("VIVA_API_URL", "http://example.com"),
        ("DROP_CONTAINER", "Data Sets"),
        ("STATE_CONTAINER", ".."),
        ("STATE_CONTAINER", "datasets"),
        ("PARTNER_APP_ID", "app"),
        ("DropStorage", "AccountName=x"),
        ("DropStorage", "file://host/dir"),
    ] {
        let problems = problems(&[(name, value)]);
        assert!(!problems.is_empty(), "{name}={value}");
        let family = name.split('_').next().unwrap();
        assert!(problems.iter().any(|text| text.contains(family) && text.contains("expected ")), "{problems:?}");
    }
}

#[test]
fn a_drop_storage_folder_that_does_not_exist_is_reported_with_the_other_problems() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("file://{}/missing", folder.path().display());
    let settings = settings(&[
        ("DropStorage", &missing),
        ("PRIVATE_KEYS", &missing),
        ("STATE_CONTAINER", ".."),
        ("DROP_CONTAINER", ".."),
    ]);
    let reads: [(&str, Result<(), InvalidSettings>); 5] = [
        ("run", Config::read(&settings).map(drop)),
        ("ledger", LedgerConfig::read(&settings).map(drop)),
        ("onboard", OnboardConfig::read(&settings).map(drop)),
        ("offboard", OffboardConfig::read(&settings).map(drop)),
        ("upload", UploadConfig::read(&settings).map(drop)),
    ];
    for (name, read) in reads {
        let problems = read.unwrap_err().0;
        assert!(problems[0].starts_with("DropStorage is not usable: there is no such folder"), "{name}: {problems:?}");
        assert!(problems.iter().any(|problem| problem.contains("_CONTAINER is")), "{name}: {problems:?}");
    }
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn a_webhook_off_loopback_requires_a_secret() {
    let problems = problems(&[("DELIVER_TO", "https://example.com/rows")]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("WEBHOOK_SECRET is not set: expected whsec_"), "{problems:?}");
}

#[test]
fn all_problems_with_a_webhook_are_reported_together() {
    let problems = problems(&[("DELIVER_TO", "https://example.com"), ("WEBHOOK_GZIP", "maybe"), ("DEADLINE", "soon")]);
    for name in ["WEBHOOK_SECRET", "WEBHOOK_GZIP", "DEADLINE"] {
        assert!(problems.iter().any(|problem| problem.starts_with(name)), "{problems:?}");
    }
}

/// All settings, those of tenants included.
fn all_settings() -> Vec<&'static str> {
    let others = [
        "DropStorage",
        "DropStorage__blobServiceUri",
        "DropStorage__queueServiceUri",
        "DropStorage__clientId",
        "DROP_CONTAINER",
        "STATE_CONTAINER",
        "TENANTS",
        "PRIVATE_KEYS",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "KEY_WRAP",
        "VIVA_API_URL",
        "VIVA_API_SCOPE",
        "PARTNER_TENANT_ID",
        "PARTNER_APP_ID",
        "PARTNER_APP_SECRET",
        "ALLOW_PLAINTEXT",
        "DECODERS",
        "DEADLINE",
        "COLUMNS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
    ];
    others.into_iter().chain(tenants::SINK_SETTINGS).chain(tenants::FILE_SETTINGS).collect()
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
                    let text = errors(name, &shape);
                    assert!(!text.contains(secret), "{name}={shape}: {text}");
                }
            }
        }
    }
}

#[test]
fn tenants_in_json_with_a_byte_order_mark_are_read() {
    let json = format!("\u{feff}{{\"{TENANT}\": {{\"path\": \"contoso\"}}}}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &json).unwrap();
    for text in [json, format!("@{}", file.path().display())] {
        let config = Config::read(&with_tenants(&text)).unwrap();
        assert_eq!(config.tenants, format!("{TENANT}=contoso").parse().unwrap());
    }
}

#[test]
fn tenants_in_json_in_quotes_are_explained() {
    for text in [format!("'{{\"{TENANT}\": {{}}}}'"), format!("[{{\"{TENANT}\": {{}}}}]"), "\"{}\"".into()] {
        let problems = Config::read(&with_tenants(&text)).unwrap_err().0;
        assert!(problems[0].starts_with("TENANTS is not usable: JSON must begin with `{`"), "{problems:?}");
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
fn a_setting_is_named_even_if_the_setting_that_it_depends_on_is_unusable_too() {
    type Changes<'a> = &'a [(&'a str, &'a str)];
    let own = |json: &str| format!(r#"{{"{TENANT}": {json}, "contoso": {{}}}}"#);
    let cases: [(Changes<'_>, &[&str]); 9] = [
        (&[("DELIVER_TO", "webhook"), ("WEBHOOK_SECRET", "short")], &["DELIVER_TO", "WEBHOOK_SECRET"]),
        (&[("DELIVER_TO", ""), ("WEBHOOK_SECRET", "short")], &["DELIVER_TO", "WEBHOOK_SECRET"]),
        (&[("DELIVER_TO", "webhook"), ("WEBHOOK_SECRET", "@Microsoft.KeyVault(x)")], &["DELIVER_TO", "WEBHOOK_SECRET"]),
        (&[("DELIVER_TO", "queue://A"), ("SinkStorage", "rows")], &["DELIVER_TO", "SinkStorage"]),
        (
            &[("DELIVER_TO", "q"), ("SinkStorage__queueServiceUri", "ftp://a"), ("WEBHOOK_GZIP", "maybe")],
            &["DELIVER_TO", "SinkStorage", "WEBHOOK_GZIP"],
        ),
        (
            &[("DELIVER_TO", "queue://rows"), ("SinkStorage", "rows"), ("DropStorage", "drops")],
            &["SinkStorage", "DropStorage"],
        ),
        (
            &[("DropStorage", ""), ("DropStorage__blobServiceUri", "ftp://a"), ("AZURE_CLIENT_SECRET", "s")],
            &["DropStorage", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
        ),
        (&[("TENANTS", &own(r#"{"IN_FLIGHT": 0}"#))], &["TENANTS is not usable", "IN_FLIGHT"]),
        (
            &[("TENANTS", &own(r#"{"WEBHOOK_SECRET": "short"}"#)), ("DELIVER_TO", "webhook")],
            &["TENANTS is not usable", "DELIVER_TO", "WEBHOOK_SECRET"],
        ),
    ];
    for (changes, names) in cases {
        let problems = problems(changes);
        for name in names {
            let is_named = |problem: &String| problem.split(": expected").next().unwrap().contains(name);
            assert!(problems.iter().any(is_named), "{name}: {problems:?}");
        }
        assert_eq!(problems.len(), names.len(), "{problems:?}");
    }
    let onboard = [("PARTNER_APP_ID", TENANT), ("VIVA_API_URL", "ftp://a")].into_iter().collect();
    let problems = OnboardConfig::read(&onboard).unwrap_err().0;
    for name in ["DropStorage", "PRIVATE_KEYS", "PARTNER_TENANT_ID", "VIVA_API_URL"] {
        assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name}: {problems:?}");
    }
}

#[test]
fn the_width_of_the_terminal_never_switches_the_column_filter() {
    let columns = |changes: &[(&str, &str)]| Config::read(&settings(changes)).unwrap().common.rules.rows.columns;
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert_eq!(columns(&[("COLUMNS", "132")]), None);
    assert_eq!(columns(&[("ROW_COLUMNS", "a"), ("COLUMNS", "132")]), names(&["a"]));
    assert_eq!(columns(&[("ROW_COLUMNS", "132")]), names(&["132"]), "a name, because shells do not set this variable");
    // For one more version, the old name is read.
    assert_eq!(columns(&[("COLUMNS", "a,b")]), names(&["a", "b"]));
    assert_eq!(columns(&[("ROW_COLUMNS", "a"), ("COLUMNS", "a,b")]), names(&["a"]));
    let decode = DecodeConfig::read(&[("COLUMNS", "a")].into_iter().collect()).unwrap();
    assert_eq!(decode.rules.rows.columns, names(&["a"]));

    let own = |json: &str, app: &[(&str, &str)]| {
        let mut settings = with_tenants(&format!(r#"{{"{TENANT}": {json}}}"#));
        app.iter().for_each(|(name, value)| settings.set(name, *value));
        Config::read(&settings)
            .map(|config| config.tenant_overrides[&TENANT.parse().unwrap()].rules.rows.columns.clone())
    };
    let app = [("ROW_COLUMNS", "*")];
    assert_eq!(
        own(r#"{"COLUMNS": "a"}"#, &app),
        Ok(names(&["a"])),
        "the old name of a tenant beside the new one of the app"
    );
    assert_eq!(own(r#"{"ROW_COLUMNS": "a"}"#, &[("COLUMNS", "b")]), Ok(names(&["a"])));
    assert_eq!(own(r#"{"BATCH_ROWS": 7}"#, &[("COLUMNS", "b")]), Ok(names(&["b"])));
    assert_eq!(own(r#"{"COLUMNS": "a", "ROW_COLUMNS": "b"}"#, &app).unwrap_err().0.len(), 1);
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
fn a_blank_setting_counts_as_not_set() {
    assert!(Config::read(&settings(&[("IN_FLIGHT", " "), ("PARTNER_APP_ID", "")])).is_ok());
    assert!(problems(&[("TENANTS", "  ")])[0].starts_with("TENANTS is not set"));
}

#[test]
fn the_storage_account_may_be_accessed_with_a_managed_identity() {
    let mut settings = settings(&[("DropStorage__blobServiceUri", "https://acct.blob.core.windows.net")]);
    assert!(Config::read(&settings).is_err(), "both forms at once are ambiguous");
    settings.set("DropStorage", "");
    assert!(matches!(Config::read(&settings).unwrap().drop_storage, Storage::Azure(_)));
}

#[test]
fn durations_have_units() {
    for (text, seconds) in [("90s", 90.0), ("4m", 240.0), ("1h", 3600.0), ("250ms", 0.25)] {
        assert_eq!(Config::read(&settings(&[("DEADLINE", text)])).unwrap().deadline.as_secs_f64(), seconds);
    }
}

#[test]
fn the_directory_is_delivered_unless_the_app_or_the_tenant_joins_it() {
    let config = Config::read(&settings(&[])).unwrap();
    assert_eq!(config.common.directory, DirectoryConfig::default());
    let json = format!(
        r#"{{"{TENANT}": {{"DIRECTORY": "join", "DIRECTORY_COLUMNS": "mail, \"a,b\"", "DIRECTORY_KEY": "Email=mail",
            "DIRECTORY_WAIT": "2h", "DIRECTORY_MEMORY": "1GiB"}}}}"#
    );
    let config = Config::read(&with_tenants(&json)).unwrap();
    assert_eq!(config.common.directory.mode, DirectoryMode::Deliver);
    let own = &config.tenant_overrides[&TENANT.parse().unwrap()].directory;
    assert_eq!((own.mode, own.wait.as_secs(), own.rules.memory), (DirectoryMode::Join, 7200, 1 << 30));
    assert_eq!(own.rules.columns, ["mail", "a,b"]);
    assert_eq!(own.rules.key, "Email=mail".parse().unwrap());
    let changes = [
        ("DIRECTORY", "yes"),
        ("DIRECTORY_COLUMNS", "mail,mail"),
        ("DIRECTORY_KEY", "ObjectId"),
        ("DIRECTORY_WAIT", "soon"),
        ("DIRECTORY_MEMORY", "256MB"),
    ];
    let problems = problems(&changes);
    assert_eq!(problems.len(), 5, "{problems:?}");
    for ((name, _), problem) in changes.iter().zip(&problems) {
        assert!(problem.starts_with(name), "{problem}");
    }
}

const OTHER: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

fn with_tenants(json: &str) -> Settings {
    settings(&[
        ("TENANTS", json),
        ("BATCH_ROWS", "50"),
        ("DELIVER_TO", "https://a.example"),
        ("WEBHOOK_SECRET", SECRET),
    ])
}

#[test]
fn a_tenant_can_override_settings_of_the_app() {
    let json = format!(
        r#"{{"{TENANT}": {{"path": ["contoso/x", "contoso/y"], "BATCH_ROWS": 7, "COLUMNS": "a,b"}}, "{OTHER}": {{}}}}"#
    );
    let config = Config::read(&with_tenants(&json)).unwrap();
    assert_eq!(config.tenants, format!("{TENANT}=contoso/x,{TENANT}=contoso/y,{OTHER}").parse().unwrap());
    let own = &config.tenant_overrides[&TENANT.parse().unwrap()];
    assert_eq!((own.limits.batch.rows.get(), own.limits.batch.bytes.get()), (7, 1 << 20));
    assert_eq!(own.rules.rows.columns, Some(vec!["a".into(), "b".into()]));
    assert!(own.deliver_to.is_none());
    assert_eq!(config.common.limits.batch.rows.get(), 50);
    assert_eq!(config.tenant_overrides.len(), 1);
}

#[test]
fn a_tenants_own_webhook_does_not_use_the_apps_secret() {
    let own = |more: &str| with_tenants(&format!(r#"{{"{TENANT}": {{"DELIVER_TO": "https://b.example"{more}}}}}"#));
    let problems = Config::read(&own("")).unwrap_err().0;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with(&format!("TENANTS, {TENANT}: WEBHOOK_SECRET is not set")), "{problems:?}");
    let config = Config::read(&own(&format!(r#","WEBHOOK_SECRET":"{SECRET}""#))).unwrap();
    assert!(matches!(config.tenant_overrides[&TENANT.parse().unwrap()].deliver_to, Some(DeliverTo::Webhook(_, None))));
}

#[test]
fn a_webhook_secret_may_be_a_vault_reference() {
    let read = |reference: &str| {
        let changes = [("DELIVER_TO", "https://a.example"), ("WEBHOOK_SECRET", reference)];
        Config::read(&settings(&changes)).map(|config| config.common.deliver_to)
    };
    let reference = "@Microsoft.KeyVault(VaultName=kv;SecretName=hook)";
    let DeliverTo::Webhook(_, Some(secret)) = read(reference).unwrap() else { panic!("expected a reference") };
    assert_eq!(secret, reference.parse().unwrap());
    let problems = read("@Microsoft.KeyVault(VaultName=kv)").unwrap_err().0;
    assert!(problems[0].starts_with("WEBHOOK_SECRET is not usable: expected @Microsoft.KeyVault("), "{problems:?}");
}

#[test]
fn a_vault_reference_that_the_platform_did_not_resolve_is_reported() {
    for name in ["PARTNER_APP_SECRET", "AZURE_CLIENT_SECRET"] {
        let unresolved = [(name, "@Microsoft.KeyVault(VaultName=kv;SecretName=app)")];
        let names =
            ["PARTNER_TENANT_ID", "PARTNER_APP_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"].map(|name| (name, TENANT));
        let problems = problems(&[&names[..], &unresolved].concat());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with(&format!("{name} is a Key Vault reference that")), "{problems:?}");
    }
}

#[test]
fn tenants_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!(r#"{{"{TENANT}": {{"path": "contoso"}}}}"#)).unwrap();
    let config = Config::read(&with_tenants(&format!("@{}", file.path().display()))).unwrap();
    assert_eq!(config.tenants, format!("{TENANT}=contoso").parse().unwrap());
    let missing = Config::read(&with_tenants("@no-such.json")).unwrap_err().0;
    assert!(missing[0].starts_with("TENANTS is not usable: the file after `@` cannot be read"), "{missing:?}");
}

#[test]
fn all_problems_with_tenants_are_reported_together_without_values() {
    let json = format!(
        r#"{{"contoso": {{}}, "{TENANT}": {{"COLOUR": "whsec_red", "BATCH_ROWS": null, "path": 7, "IN_FLIGHT": 1, "IN_FLIGHT": 2}}}}"#
    );
    let report = Config::read(&with_tenants(&json)).unwrap_err().0.concat();
    for part in [
        "entry 1: expected a GUID",
        "`COLOUR` is not a setting that a tenant can override: expected path, paused, DELIVER_TO,",
        "`BATCH_ROWS` is not a string, a number, true or false",
        "`path` is not a string or a list of strings",
        "`IN_FLIGHT` appears twice",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("red"));
    let truncated = Config::read(&with_tenants(r#"{"a": {"WEBHOOK_SECRET": "whsec_red"#)).unwrap_err().0.concat();
    assert!(truncated.contains("line 1, column") && !truncated.contains("red"), "{truncated}");
}

#[test]
fn a_blank_setting_of_a_tenant_is_a_problem() {
    let json = format!(r#"{{"{TENANT}": {{"path": [], "DELIVER_TO": " "}}}}"#);
    let report = Config::read(&with_tenants(&json)).unwrap_err().0.concat();
    assert!(report.contains("`path` is an empty list") && report.contains("`DELIVER_TO` is blank"), "{report}");
}

#[test]
fn a_tenant_can_have_a_queue_in_another_account() {
    let json = format!(
        r#"{{"{TENANT}": {{"DELIVER_TO": "queue://own", "SinkStorage__queueServiceUri": "https://own.queue.core.windows.net"}}}}"#
    );
    let mut settings = with_tenants(&json);
    settings.set("SinkStorage", "AccountName=common;AccountKey=c2VjcmV0");
    let config = Config::read(&settings).unwrap();
    let Some(DeliverTo::Queue(queue)) = &config.tenant_overrides[&TENANT.parse().unwrap()].deliver_to else {
        panic!("a queue")
    };
    assert!(format!("{queue:?}").contains("own.queue.core.windows.net"), "{queue:?}");
}

#[test]
fn a_problem_with_the_apps_settings_is_not_repeated_for_every_tenant() {
    let mut settings = with_tenants(&format!(r#"{{"{TENANT}": {{"IN_FLIGHT": 0}}, "{OTHER}": {{"IN_FLIGHT": 2}}}}"#));
    settings.set("BATCH_ROWS", "many");
    let problems = Config::read(&settings).unwrap_err().0;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("BATCH_ROWS is `many`"));
    assert!(problems[1].starts_with(&format!("TENANTS, {TENANT}: IN_FLIGHT is `0`")), "{problems:?}");
}

#[test]
fn a_column_name_in_double_quotes_may_contain_commas() {
    let columns =
        |text: &str| Config::read(&settings(&[("ROW_COLUMNS", text)])).map(|config| config.common.rules.rows.columns);
    assert_eq!(columns("*"), Ok(None));
    assert_eq!(columns(r#"a, "b, c" ,d"#), Ok(Some(vec!["a".into(), "b, c".into(), "d".into()])));
    for wrong in [",", r#""a"#, r#"a"b"#, r#""a"b""#] {
        assert!(columns(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn private_keys_are_in_a_vault_or_a_folder() {
    let read = |value| Config::read(&settings(&[("PRIVATE_KEYS", value)])).unwrap().private_keys;
    assert_eq!(read("file:///tmp"), KeyStoreLocation::Folder("/tmp".into()));
    let vault = "https://kv.vault.azure.net";
    assert_eq!(read(vault), KeyStoreLocation::Vault(vault.parse().unwrap()));
    for value in ["http://kv.vault.azure.net", "https://kv.vault.azure.net/keys", "kv"] {
        let problems = problems(&[("PRIVATE_KEYS", value)]);
        assert!(problems[0].contains("expected https://{vault}.vault.azure.net"), "{problems:?}");
    }
}

#[test]
fn the_identity_depends_on_the_settings_and_the_machine() {
    let identity = |changes: &[(&str, &str)]| Config::read(&settings(changes)).unwrap().identity;
    assert!(matches!(identity(&[]), Identity::Developer));
    assert!(matches!(identity(&[("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi")]), Identity::Managed(None)));
    assert!(matches!(identity(&[("MSI_ENDPOINT", "http://127.0.0.1:1/msi")]), Identity::Managed(None)));
    for name in ["AZURE_CLIENT_ID", "DropStorage__clientId"] {
        assert!(matches!(identity(&[(name, "id")]), Identity::Managed(Some(id)) if id == "id"), "{name}");
    }
    let application = [("AZURE_TENANT_ID", "contoso.com"), ("AZURE_CLIENT_ID", "id"), ("AZURE_CLIENT_SECRET", "s")];
    assert!(matches!(identity(&application), Identity::Application(Application { app_id, .. }) if app_id == "id"));
    let problems = problems(&[("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_TENANT_ID", "contoso.com")]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("AZURE_CLIENT_ID is not set") && !problems[0].contains("hunter2"));
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

#[test]
fn the_partners_ids_may_be_set_without_a_secret_but_only_together() {
    let ids = [("PARTNER_TENANT_ID", TENANT), ("PARTNER_APP_ID", TENANT)];
    assert!(Config::read(&settings(&ids)).unwrap().viva_api.partner.is_none(), "the managed identity authenticates");
    for alone in ids {
        let problems = problems(&[alone]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("expected it together with PARTNER_"), "{problems:?}");
    }
    assert_eq!(problems(&[("PARTNER_APP_SECRET", "hunter2")]).len(), 2);
}

#[test]
fn onboard_needs_fewer_settings_than_a_run_and_the_partners_ids() {
    let required = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("PRIVATE_KEYS", "file:///tmp"),
        ("PARTNER_TENANT_ID", TENANT),
        ("PARTNER_APP_ID", TENANT),
    ];
    let config = OnboardConfig::read(&required.into_iter().collect()).unwrap();
    assert!(config.tenants.is_none() && config.viva_api.partner.is_none());
    for (missing, _) in required {
        let others: Settings = required.into_iter().filter(|(name, _)| *name != missing).collect();
        let problems = OnboardConfig::read(&others).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("{missing} is not set: expected ")), "{problems:?}");
    }
    let invalid_ids = required.into_iter().chain([("PARTNER_APP_ID", "contoso"), ("TENANTS", "contoso")]).collect();
    assert_eq!(OnboardConfig::read(&invalid_ids).unwrap_err().0.len(), 2);
}

#[test]
fn a_key_folder_that_does_not_exist_is_a_problem_of_the_settings() {
    let problems = problems(&[("PRIVATE_KEYS", "file:///nope")]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("PRIVATE_KEYS is not usable: there is no such folder"), "{problems:?}");
    // `onboard` creates the folder.
    let settings: Settings = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("PRIVATE_KEYS", "file:///nope"),
        ("PARTNER_TENANT_ID", TENANT),
        ("PARTNER_APP_ID", TENANT),
    ]
    .into_iter()
    .collect();
    OnboardConfig::read(&settings).unwrap();
}

#[test]
fn a_message_cannot_be_retried_for_longer_than_a_run_lasts() {
    let too_long = problems(&[("DELIVERY_PATIENCE", "30m")]);
    assert_eq!(too_long.len(), 1, "{too_long:?}");
    assert!(too_long[0].starts_with("DELIVERY_PATIENCE is longer than DEADLINE: expected at most"), "{too_long:?}");
    Config::read(&settings(&[("DELIVERY_PATIENCE", "25m")])).unwrap();

    let tenants = format!(r#"{{"{TENANT}": {{"DELIVERY_PATIENCE": "30m"}}}}"#);
    let of_tenant = problems(&[("TENANTS", &tenants)]);
    assert_eq!(of_tenant.len(), 1, "{of_tenant:?}");
    assert!(of_tenant[0].starts_with(&format!("TENANTS, {TENANT}: DELIVERY_PATIENCE is longer")), "{of_tenant:?}");

    // If it is not set, it is 4 minutes, or DEADLINE if that is shorter.
    for (deadline, expected) in [("2s", 2), ("25m", 240)] {
        let config = Config::read(&settings(&[("DEADLINE", deadline)])).unwrap();
        let DeliverTo::Webhook(webhook, _) = &config.common.deliver_to else { panic!("a webhook") };
        assert_eq!(webhook.retry_budget.total, Duration::from_secs(expected));
    }
}

#[test]
fn places_of_two_tenants_that_overlap_are_one_problem_that_names_both() {
    const OTHER: &str = "7da33e17-783a-47e5-b238-dcec69539374";
    for (outer, inner) in [("datasets", "datasets"), ("datasets", "datasets/a"), ("datasets/a", "datasets/a/b/c")] {
        let json = format!(r#"{{"{TENANT}": {{"path": "{inner}"}}, "{OTHER}": {{"path": ["x", "{outer}"]}}}}"#);
        for tenants in [format!("{TENANT}={inner},{OTHER}=x,{OTHER}={outer}"), json] {
            let problems = problems(&[("TENANTS", &tenants)]);
            assert_eq!(problems.len(), 1, "{problems:?}");
            let [first, second] = [format!("{TENANT}=`{inner}`"), format!("{OTHER}=`{outer}`")];
            for part in ["TENANTS is not usable", &first, &second, "overlap"] {
                assert!(problems[0].contains(part), "{part}: {problems:?}");
            }
        }
    }
    // The places of one tenant may overlap; and for folders named by a GUID, the outermost decides.
    for tenants in [
        format!("{TENANT}=datasets/a,{OTHER}=datasets/ab"),
        format!("{TENANT}=datasets/a,{TENANT}=datasets/a/b,{OTHER}=datasets/b"),
        format!("{TENANT}=datasets,{OTHER}"),
        format!("{TENANT},{OTHER}=datasets/{TENANT}"),
    ] {
        Config::read(&settings(&[("TENANTS", &tenants)])).unwrap();
    }
}

#[test]
fn columns_that_the_user_names_are_expected_in_a_file() {
    let expected = |changes: &[(&str, &str)]| {
        let rules = Config::read(&settings(changes)).unwrap().common.rules.rows;
        let text = |column: &ExpectedColumn| {
            format!("{} {}{}", column.setting, column.name, if column.is_optional { " (optional)" } else { "" })
        };
        rules.checks.expected.iter().map(text).collect::<Vec<_>>()
    };
    assert!(expected(&[]).is_empty(), "a default must not fail a file");
    assert_eq!(expected(&[("ENCRYPTED_COLUMNS", "ObjectId")]), ["ENCRYPTED_COLUMNS ObjectId"]);
    let columns = "ObjectId, rare?,\"with, comma\",\"rare, with comma\"?, \"certain?\"";
    let names = [
        "ROW_COLUMNS ObjectId",
        "ROW_COLUMNS rare (optional)",
        "ROW_COLUMNS with, comma",
        "ROW_COLUMNS rare, with comma (optional)",
        "ROW_COLUMNS certain?",
    ];
    assert_eq!(expected(&[("ROW_COLUMNS", columns)]), names);
    assert_eq!(
        Config::read(&settings(&[("ROW_COLUMNS", columns)])).unwrap().common.rules.rows.columns.unwrap(),
        ["ObjectId", "rare", "with, comma", "rare, with comma", "certain?"]
    );
    let key = ("DIRECTORY_KEY", "Email=mail");
    assert!(expected(&[key]).is_empty(), "nothing is joined");
    assert_eq!(expected(&[key, ("DIRECTORY", "join")]), ["DIRECTORY_KEY Email"]);
    assert!(expected(&[("DIRECTORY", "join")]).is_empty());
}

#[test]
fn a_deadline_must_be_below_the_timeout_of_the_host() {
    let check =
        |changes: &[(&str, &str)], minutes: u64| check_deadline(&settings(changes), Duration::from_secs(minutes * 60));
    assert_eq!(check(&[], 30), Ok(()));
    assert_eq!(check(&[("DEADLINE", "soon")], 30), Ok(()), "it is reported elsewhere");
    let problem = |changes: &[(&str, &str)], minutes| check(changes, minutes).unwrap_err().0.remove(0);
    assert!(problem(&[("DEADLINE", "1h")], 30).starts_with("DEADLINE is 1h: expected less than functionTimeout"));
    assert!(problem(&[], 10).starts_with("DEADLINE is 25m, which is the default: expected less than"));
}

#[test]
fn a_secret_of_a_sink_is_validated_whatever_else_is_unusable() {
    for (deliver_to, setting, value) in [
        ("ftp://example.com", "WEBHOOK_SECRET", "secret"),
        ("", "WEBHOOK_SECRET", "secret"),
        ("queue://Rows", "SinkStorage", "rows"),
        ("", "SinkStorage", "rows"),
        ("servicebus://contoso", "ServiceBus", "rows"),
    ] {
        let problems = problems(&[("DELIVER_TO", deliver_to), (setting, value)]);
        for name in ["DELIVER_TO", setting] {
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name}: {problems:?}");
        }
    }
    let problems = problems(&[("DropStorage", "none"), ("DELIVER_TO", "queue://rows"), ("SinkStorage", "none")]);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_tenant_may_be_paused() {
    let read = |paused: &str| {
        let tenants = format!(r#"{{"{TENANT}": {{"paused": {paused}}}}}"#);
        Config::read(&settings(&[("TENANTS", &tenants)]))
    };
    let tenant = TENANT.parse().unwrap();
    assert!(read("true").unwrap().tenants.is_paused(tenant));
    assert!(!read("false").unwrap().tenants.is_paused(tenant));
    assert!(read("\"yes\"").unwrap_err().0[0].contains("`paused` is not true or false"));
}

#[test]
fn a_memory_without_a_unit_is_rejected_with_an_example() {
    for name in ["DIRECTORY_MEMORY", "ATTRIBUTES_MEMORY"] {
        let problems = problems(&[(name, "256")]);
        assert_eq!(problems, [format!("{name} is `256`: expected a size above 0 with a unit, such as 64MiB or 1GiB")]);
    }
}

#[test]
fn both_endpoints_of_an_account_are_reported() {
    for (name, deliver_to) in [("DropStorage", "queue://rows"), ("SinkStorage", "queue://rows")] {
        let (blob, queue) = (format!("{name}__blobServiceUri"), format!("{name}__queueServiceUri"));
        let mut changes = vec![(&*blob, "foo"), (&*queue, "bar"), ("DELIVER_TO", deliver_to)];
        changes.extend((name == "DropStorage").then_some((name, "")));
        let problems = problems(&changes);
        assert_eq!(problems.len(), 2, "{problems:?}");
        for part in ["blobServiceUri is not usable", "queueServiceUri is not usable"] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
    }
}

#[test]
fn unknown_members_of_a_tenant_are_named_with_the_nearest_setting() {
    let json = format!(r#"{{"{TENANT}": {{"batch_row": "red", "Colour": "red", "DIRECTORY-KEY1": "red"}}}}"#);
    let report = Config::read(&with_tenants(&json)).unwrap_err().0.concat();
    for part in [
        "`batch_row` is not a setting that a tenant can override (the nearest is `BATCH_ROWS`)",
        "`Colour` is not a setting that a tenant can override: expected path, paused, DELIVER_TO,",
        "member 3 is not a setting that a tenant can override (the nearest is `DIRECTORY_KEY`)",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("red"), "{report}");
}

#[test]
fn the_settings_of_other_sinks_are_validated() {
    for deliver_to in ["stdout:", "queue://rows", "servicebus://contoso/rows", "http://127.0.0.1:9000/rows"] {
        for (name, value) in [("WEBHOOK_SECRET", "abc"), ("SinkStorage", "rows"), ("ServiceBus", "rows")] {
            let problems = problems(&[("DELIVER_TO", deliver_to), (name, value)]);
            assert_eq!(problems.len(), 1, "{deliver_to}: {problems:?}");
            assert!(problems[0].starts_with(&format!("{name} is not usable")), "{deliver_to}: {problems:?}");
        }
    }
}

#[test]
fn the_key_of_a_service_bus_that_is_not_the_sink_may_be_an_unresolved_reference() {
    let reference = ("ServiceBus", "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)");
    assert!(Config::read(&settings(&[("DELIVER_TO", "stdout:"), reference])).is_ok());
    for deliver_to in ["servicebus://contoso/rows", "servicebus:"] {
        let problems = problems(&[("DELIVER_TO", deliver_to), reference]);
        assert!(
            problems.iter().any(|problem| problem.starts_with("ServiceBus is a Key Vault reference")),
            "{problems:?}"
        );
    }
}

#[test]
fn the_partners_ids_must_be_ids() {
    let secret = ("PARTNER_APP_SECRET", "hunter2");
    let read = |tenant, app, more: &[(&str, &str)]| {
        let changes = [&[("PARTNER_TENANT_ID", tenant), ("PARTNER_APP_ID", app)], more].concat();
        Config::read(&settings(&changes)).map(drop).map_err(|error| error.0)
    };
    for more in [&[][..], &[secret]] {
        for tenant in [TENANT, "contoso.onmicrosoft.com"] {
            assert_eq!(read(tenant, TENANT, more), Ok(()));
        }
        let problems = read("zz", "zzz", more).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("PARTNER_TENANT_ID is not usable: expected a GUID, or a domain"),
            "{problems:?}"
        );
        assert!(problems[1].starts_with("PARTNER_APP_ID is not usable: expected a GUID"), "{problems:?}");
        for tenant in ["contoso.", ".com", "a..b", "contoso.com/", "{9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10}"] {
            assert_eq!(read(tenant, TENANT, more).unwrap_err().len(), 1, "{tenant}");
        }
    }
    let onboard = [("PARTNER_TENANT_ID", "zz"), ("PARTNER_APP_ID", "zzz"), secret].into_iter().collect();
    let problems = OnboardConfig::read(&onboard).unwrap_err().0;
    assert_eq!(problems.iter().filter(|problem| problem.starts_with("PARTNER_")).count(), 2, "{problems:?}");
}

#[test]
fn a_number_that_no_machine_can_serve_is_rejected() {
    for (name, largest) in
        [("MAX_ROW_BYTES", 67_108_864_u64), ("DECODERS", 256), ("IN_FLIGHT", 1_024), ("BATCH_ROWS", 1_000_000)]
    {
        assert!(Config::read(&settings(&[(name, &largest.to_string())])).is_ok(), "{name}");
        let larger = (largest + 1).to_string();
        let expected = format!("{name} is `{larger}`: expected a number from 1 to {largest}");
        assert_eq!(problems(&[(name, &larger)]), [expected]);
        let tenants = format!(r#"{{"{TENANT}": {{"{name}": {larger}}}}}"#);
        assert!(name == "DECODERS" || problems(&[("TENANTS", &tenants)])[0].contains("expected a number from 1 to"));
    }
    assert!(problems(&[("BATCH_ROWS", "99999999999999999999999")])[0].ends_with("expected a number from 1 to 1000000"));
}

#[test]
fn an_asterisk_beside_names_or_with_a_question_mark_is_rejected_at_start() {
    for (name, value) in
        [("ROW_COLUMNS", "*,Foo"), ("ROW_COLUMNS", "*?"), ("ROW_COLUMNS", "a, *"), ("ENCRYPTED_COLUMNS", "*")]
    {
        let problems = problems(&[(name, value)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("{name} is not usable: `*` ")), "{problems:?}");
    }
}
