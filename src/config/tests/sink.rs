//! `DELIVER_TO` and the settings of sinks.

use super::*;

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
