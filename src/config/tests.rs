use super::*;
use crate::identity::Application;
use crate::pipeline::FileRules;
use crate::stage::decode::ExpectedColumn;

mod access;
mod columns;
mod secrets;
mod sink;
mod tenants;

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
fn a_blank_setting_counts_as_not_set() {
    assert!(Config::read(&settings(&[("IN_FLIGHT", " "), ("PARTNER_APP_ID", "")])).is_ok());
    assert!(problems(&[("TENANTS", "  ")])[0].starts_with("TENANTS is not set"));
}

#[test]
fn durations_have_units() {
    for (text, seconds) in [("90s", 90.0), ("4m", 240.0), ("1h", 3600.0), ("250ms", 0.25)] {
        assert_eq!(Config::read(&settings(&[("DEADLINE", text)])).unwrap().deadline.as_secs_f64(), seconds);
    }
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
fn a_memory_without_a_unit_is_rejected_with_an_example() {
    for name in ["DIRECTORY_MEMORY", "ATTRIBUTES_MEMORY"] {
        let problems = problems(&[(name, "256")]);
        assert_eq!(problems, [format!("{name} is `256`: expected a size above 0 with a unit, such as 64MiB or 1GiB")]);
    }
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
