//! Storage, keys and the identities of the app and the partner.

use super::*;

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
fn the_storage_account_may_be_accessed_with_a_managed_identity() {
    let mut settings = settings(&[("DropStorage__blobServiceUri", "https://acct.blob.core.windows.net")]);
    assert!(Config::read(&settings).is_err(), "both forms at once are ambiguous");
    settings.set("DropStorage", "");
    assert!(matches!(Config::read(&settings).unwrap().drop_storage, Storage::Azure(_)));
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
