//! `TENANTS`, and the settings that a tenant overrides.

use super::*;
use crate::directory::{DirectoryConfig, DirectoryMode};

const OTHER: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

/// The required settings, with this value of `TENANTS`.
pub(super) fn with_tenants(json: &str) -> Settings {
    settings(&[
        ("TENANTS", json),
        ("BATCH_ROWS", "50"),
        ("DELIVER_TO", "https://a.example"),
        ("WEBHOOK_SECRET", SECRET),
    ])
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
fn places_of_two_tenants_that_overlap_are_one_problem_that_names_both() {
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
