use super::*;
use crate::identity::Application;

/// The Standard Webhooks specification's own example.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

fn settings(changes: &[(&str, &str)]) -> Settings {
    let mut settings: Settings = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("TENANTS", TENANT),
        ("PRIVATE_KEYS", "file:///keys"),
        ("DELIVER_TO", "http://127.0.0.1:9000/rows"),
    ]
    .into_iter()
    .collect();
    for (name, value) in changes {
        settings.set(name, *value);
    }
    settings
}

fn complaints(changes: &[(&str, &str)]) -> Vec<String> {
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
fn everything_that_is_missing_is_said_at_once() {
    let report = Config::read(&Settings::default()).unwrap_err().to_string();
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines[0], "4 settings are not usable");
    for (line, name) in lines[1..].iter().zip(["DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO"]) {
        assert!(line.starts_with(&format!("  {name} is not set: expected ")), "{line}");
    }
}

#[test]
fn each_complaint_names_the_setting_and_what_would_do() {
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
        let complaints = complaints(&[(name, value)]);
        assert!(!complaints.is_empty(), "{name}={value}");
        let family = name.split('_').next().unwrap();
        assert!(complaints.iter().any(|text| text.contains(family) && text.contains("expected ")), "{complaints:?}");
    }
}

#[test]
fn a_webhook_off_loopback_needs_a_secret() {
    let complaints = complaints(&[("DELIVER_TO", "https://example.com/rows")]);
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].starts_with("WEBHOOK_SECRET is not set: expected whsec_"), "{complaints:?}");
}

#[test]
fn what_is_wrong_with_a_webhook_is_said_whatever_else_is_wrong_with_it() {
    let complaints =
        complaints(&[("DELIVER_TO", "https://example.com"), ("WEBHOOK_GZIP", "maybe"), ("DEADLINE", "soon")]);
    for name in ["WEBHOOK_SECRET", "WEBHOOK_GZIP", "DEADLINE"] {
        assert!(complaints.iter().any(|complaint| complaint.starts_with(name)), "{complaints:?}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown_either() {
    for (name, value) in [
        ("DELIVER_TO", "ftp://user:hunter2@example.com"),
        ("DELIVER_TO", "whsec_hunter2"),
        ("VIVA_API_URL", "https//user:hunter2@example.com"),
        ("PRIVATE_KEYS", "https://user:hunter2@example.com"),
        ("DropStorage", "file://host/dir?sig=hunter2"),
    ] {
        let complaints = complaints(&[(name, value)]);
        assert!(!complaints.concat().contains("hunter2"), "{complaints:?}");
    }
}

#[test]
fn no_secret_is_shown() {
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
fn a_blank_setting_is_not_set() {
    assert!(Config::read(&settings(&[("IN_FLIGHT", " "), ("PARTNER_APP_ID", "")])).is_ok());
    assert!(complaints(&[("TENANTS", "  ")])[0].starts_with("TENANTS is not set"));
}

#[test]
fn the_account_may_be_reached_by_managed_identity() {
    let mut settings = settings(&[("DropStorage__blobServiceUri", "https://acct.blob.core.windows.net")]);
    assert!(Config::read(&settings).is_err(), "both forms at once say two things");
    settings.set("DropStorage", "");
    assert!(matches!(Config::read(&settings).unwrap().drop_storage, Storage::Azure(_)));
}

#[test]
fn lengths_of_time_have_units() {
    for (text, seconds) in [("90s", 90.0), ("4m", 240.0), ("1h", 3600.0), ("250ms", 0.25)] {
        assert_eq!(Config::read(&settings(&[("DEADLINE", text)])).unwrap().deadline.as_secs_f64(), seconds);
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
fn a_tenant_may_have_settings_of_its_own_over_those_of_the_app() {
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
fn a_tenants_own_webhook_does_not_share_the_secret_of_the_apps() {
    let own = |more: &str| with_tenants(&format!(r#"{{"{TENANT}": {{"DELIVER_TO": "https://b.example"{more}}}}}"#));
    let complaints = Config::read(&own("")).unwrap_err().0;
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].starts_with(&format!("TENANTS, {TENANT}: WEBHOOK_SECRET is not set")), "{complaints:?}");
    let config = Config::read(&own(&format!(r#","WEBHOOK_SECRET":"{SECRET}""#))).unwrap();
    assert!(matches!(config.tenant_overrides[&TENANT.parse().unwrap()].deliver_to, Some(DeliverTo::Webhook(_, None))));
}

#[test]
fn a_secret_may_be_in_a_vault() {
    let read = |reference: &str| {
        let changes = [("DELIVER_TO", "https://a.example"), ("WEBHOOK_SECRET", reference)];
        Config::read(&settings(&changes)).map(|config| config.common.deliver_to)
    };
    let reference = "@Microsoft.KeyVault(VaultName=kv;SecretName=hook)";
    let DeliverTo::Webhook(_, Some(secret)) = read(reference).unwrap() else { panic!("expected a reference") };
    assert_eq!(secret, reference.parse().unwrap());
    let complaints = read("@Microsoft.KeyVault(VaultName=kv)").unwrap_err().0;
    assert!(complaints[0].starts_with("WEBHOOK_SECRET is not usable: expected @Microsoft.KeyVault("), "{complaints:?}");
}

#[test]
fn a_secret_that_the_platform_did_not_resolve_is_none() {
    for name in ["PARTNER_APP_SECRET", "AZURE_CLIENT_SECRET"] {
        let unresolved = [(name, "@Microsoft.KeyVault(VaultName=kv;SecretName=app)")];
        let names =
            ["PARTNER_TENANT_ID", "PARTNER_APP_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"].map(|name| (name, TENANT));
        let complaints = complaints(&[&names[..], &unresolved].concat());
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with(&format!("{name} is a Key Vault reference that")), "{complaints:?}");
    }
}

#[test]
fn tenants_may_be_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!(r#"{{"{TENANT}": {{"path": "contoso"}}}}"#)).unwrap();
    let config = Config::read(&with_tenants(&format!("@{}", file.path().display()))).unwrap();
    assert_eq!(config.tenants, format!("{TENANT}=contoso").parse().unwrap());
    let missing = Config::read(&with_tenants("@no-such.json")).unwrap_err().0;
    assert!(missing[0].starts_with("TENANTS is not usable: cannot read `no-such.json`"), "{missing:?}");
}

#[test]
fn everything_wrong_with_the_tenants_is_said_at_once_and_no_value_is_shown() {
    let json = format!(
        r#"{{"contoso": {{}}, "{TENANT}": {{"COLOUR": "whsec_red", "BATCH_ROWS": null, "path": 7, "IN_FLIGHT": 1, "IN_FLIGHT": 2}}}}"#
    );
    let complaint = Config::read(&with_tenants(&json)).unwrap_err().0.concat();
    for part in [
        "`contoso`: expected a GUID",
        "`COLOUR` is not a setting that a tenant may have of its own: expected path, DELIVER_TO,",
        "`BATCH_ROWS` is neither text nor number",
        "`path` is neither text nor a list",
        "`IN_FLIGHT` is there twice",
    ] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert!(!complaint.contains("red"));
    let torn = Config::read(&with_tenants(r#"{"a": {"WEBHOOK_SECRET": "whsec_red"#)).unwrap_err().0.concat();
    assert!(torn.contains("line 1, column") && !torn.contains("red"), "{torn}");
}

#[test]
fn a_tenants_blank_settings_do_not_fall_back_to_those_of_the_app() {
    let json = format!(r#"{{"{TENANT}": {{"path": [], "DELIVER_TO": " "}}}}"#);
    let complaint = Config::read(&with_tenants(&json)).unwrap_err().0.concat();
    assert!(
        complaint.contains("`path` is an empty list") && complaint.contains("`DELIVER_TO` is blank"),
        "{complaint}"
    );
}

#[test]
fn a_tenants_own_queue_is_in_its_own_account() {
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
fn a_complaint_about_the_apps_settings_is_not_repeated_for_every_tenant() {
    let mut settings = with_tenants(&format!(r#"{{"{TENANT}": {{"IN_FLIGHT": 0}}, "{OTHER}": {{"IN_FLIGHT": 2}}}}"#));
    settings.set("BATCH_ROWS", "many");
    let complaints = Config::read(&settings).unwrap_err().0;
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].starts_with("BATCH_ROWS is `many`"));
    assert!(complaints[1].starts_with(&format!("TENANTS, {TENANT}: IN_FLIGHT is `0`")), "{complaints:?}");
}

#[test]
fn a_columns_name_may_hold_commas_in_double_quotes() {
    let columns =
        |text: &str| Config::read(&settings(&[("COLUMNS", text)])).map(|config| config.common.rules.rows.columns);
    assert_eq!(columns("*"), Ok(None));
    assert_eq!(columns("132"), Ok(None), "a shell's width of its terminal");
    assert_eq!(columns(r#"a, "b, c" ,d"#), Ok(Some(vec!["a".into(), "b, c".into(), "d".into()])));
    for wrong in [",", r#""a"#, r#"a"b"#, r#""a"b""#] {
        assert!(columns(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn private_keys_are_in_a_vault_or_in_a_folder() {
    let read = |value| Config::read(&settings(&[("PRIVATE_KEYS", value)])).unwrap().private_keys;
    assert_eq!(read("file:///keys"), PrivateKeysIn::Folder("/keys".into()));
    let vault = "https://kv.vault.azure.net";
    assert_eq!(read(vault), PrivateKeysIn::Vault(vault.parse().unwrap()));
    for value in ["http://kv.vault.azure.net", "https://kv.vault.azure.net/keys", "kv"] {
        let complaints = complaints(&[("PRIVATE_KEYS", value)]);
        assert!(complaints[0].contains("expected https://{vault}.vault.azure.net"), "{complaints:?}");
    }
}

#[test]
fn who_we_are_is_found_by_one_rule() {
    let identity = |changes: &[(&str, &str)]| Config::read(&settings(changes)).unwrap().identity;
    assert!(matches!(identity(&[]), Identity::Developer));
    assert!(matches!(identity(&[("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi")]), Identity::Managed(None)));
    assert!(matches!(identity(&[("MSI_ENDPOINT", "http://127.0.0.1:1/msi")]), Identity::Managed(None)));
    for name in ["AZURE_CLIENT_ID", "DropStorage__clientId"] {
        assert!(matches!(identity(&[(name, "id")]), Identity::Managed(Some(id)) if id == "id"), "{name}");
    }
    let application = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "id"), ("AZURE_CLIENT_SECRET", "s")];
    assert!(matches!(identity(&application), Identity::Application(Application { app_id, .. }) if app_id == "id"));
    let complaints = complaints(&[("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_TENANT_ID", "t")]);
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].starts_with("AZURE_CLIENT_ID is not set") && !complaints[0].contains("hunter2"));
}

#[test]
fn the_partners_ids_may_come_without_a_secret_and_never_alone() {
    let ids = [("PARTNER_TENANT_ID", TENANT), ("PARTNER_APP_ID", TENANT)];
    assert!(Config::read(&settings(&ids)).unwrap().viva_api.partner.is_none(), "the app's own identity asks");
    for alone in ids {
        let complaints = complaints(&[alone]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("expected it together with PARTNER_"), "{complaints:?}");
    }
    assert_eq!(complaints(&[("PARTNER_APP_SECRET", "hunter2")]).len(), 2);
}

#[test]
fn onboard_needs_less_than_a_run_and_the_partners_ids() {
    let enough = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("PRIVATE_KEYS", "file:///keys"),
        ("PARTNER_TENANT_ID", TENANT),
        ("PARTNER_APP_ID", TENANT),
    ];
    let config = OnboardConfig::read(&enough.into_iter().collect()).unwrap();
    assert!(config.tenants.is_none() && config.viva_api.partner.is_none());
    for (left_out, _) in enough {
        let rest: Settings = enough.into_iter().filter(|(name, _)| *name != left_out).collect();
        let complaints = OnboardConfig::read(&rest).unwrap_err().0;
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with(&format!("{left_out} is not set: expected ")), "{complaints:?}");
    }
    let no_guid = enough.into_iter().chain([("PARTNER_APP_ID", "contoso"), ("TENANTS", "contoso")]).collect();
    assert_eq!(OnboardConfig::read(&no_guid).unwrap_err().0.len(), 2);
}
