//! `vivadrop onboard`: onboards a customer, also after interruptions, and only once.

use std::{fs, io, os::unix::fs::PermissionsExt, sync::Arc};

use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use secrecy::SecretString;
use serde_json::Value;
use testkit::viva_api::Behaviour;
use vivadrop::{
    drop::TenantId,
    ledger::Ledger,
    store::{
        BlobPath, Store, StoreError, WriteIf,
        azure::{Account, AzureStore},
        list_at_most,
    },
};

use crate::support::{
    azurite::{self, Azurite},
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::{Scene, assert_complete},
    vault::KeyVault,
    vectors,
};

const PARTNER: &str = "5b0f3c1e-6f62-4f7f-8d0a-3f9c1b6f2a11";
const APP: &str = "8d067740-790e-4e50-9e54-d2832fee24b8";

/// A partner, and a customer who is not onboarded yet.
async fn partner(mut scene: Scene) -> (Scene, TenantId) {
    scene.set("PARTNER_TENANT_ID", PARTNER);
    scene.set("PARTNER_APP_ID", APP);
    (scene, TenantId(uuid::Uuid::new_v4()))
}

/// As [`partner`], but the app accesses the storage with its identity.
async fn partner_without_account_key() -> (Scene, TenantId, Entra, Azurite) {
    let entra = Entra::start().await;
    let azurite = Azurite::with_tokens(&entra.certificate);
    let (mut scene, tenant) = partner(Scene::in_a_folder().await).await;
    entra.add_secrets(&scene.secrets);
    scene.settings.extend(entra.with_secret());
    scene.settings.remove("DropStorage");
    scene.set("DropStorage__blobServiceUri", &azurite.blob_endpoint());
    scene.set("DropStorage__queueServiceUri", &azurite.queue_endpoint());
    (scene, tenant, entra, azurite)
}

/// Runs a command with the settings of the scene; its stderr must contain no secret.
async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    ended
}

/// Onboards a tenant, with more arguments.
async fn onboard(scene: &Scene, tenant: TenantId, more: &[&str]) -> CommandOutput {
    run(scene, &[&["onboard", "--tenant", &tenant.to_string()], more].concat()).await
}

/// The name of the state container.
fn state(scene: &Scene) -> String {
    scene.settings.get("STATE_CONTAINER").cloned().unwrap_or_else(|| "vivadrop-state".into())
}

/// The record of the customer's registration, if there is one.
async fn record(scene: &Scene, tenant: TenantId) -> Option<Value> {
    let path = BlobPath::new(state(scene), format!("tenants/{tenant}.json"));
    let blob = scene.store.find(&path).await.unwrap()?;
    let bytes = vivadrop::store::read_whole(&*scene.store, &blob, 10_000).await.unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// The modulus of the private key of the tenant, which becomes a secret of the scene.
fn modulus(scene: &Scene, tenant: TenantId) -> Vec<u8> {
    let pem = fs::read_to_string(scene.private_key(tenant)).unwrap();
    scene.secrets.add_pem(&pem);
    RsaPrivateKey::from_pkcs8_pem(&pem).unwrap().n().to_bytes_be()
}

/// The line of stdout after the one that ends in `(…; a secret):`.
fn sas_url(ended: &CommandOutput) -> Option<String> {
    let mut lines = ended.stdout.lines().skip_while(|line| !line.contains("a secret"));
    lines.nth(1).map(|line| line.trim().to_owned())
}

#[tokio::test]
async fn a_customer_is_onboarded_and_a_second_run_changes_nothing() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let (scene, tenant) = partner(scene).await;
        let first = onboard(&scene, tenant, &[]).await;
        assert_eq!((first.code, &*first.stderr), (Some(0), "created a key\nregistered the key\ncreated a container\n"));
        let modulus = modulus(&scene, tenant);
        let mode = fs::metadata(scene.private_key(tenant)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let registered = scene.api.partner_keys();
        let ours = &registered[&tenant.to_string()];
        assert_eq!((ours.modulus.as_slice(), &*ours.tenant_id, &*ours.partner_app_id), (&*modulus, PARTNER, APP));
        assert!(scene.store.has_container(&tenant.to_string()).await.unwrap());
        for part in [
            &format!("add to TENANTS: {tenant}={tenant}"),
            "set DROP_CONTAINER to `*`",
            &format!("https://login.microsoftonline.com/{tenant}/adminconsent?client_id={APP}"),
            ", valid until ",
        ] {
            assert!(first.stdout.contains(part), "{part}: {}", first.stdout);
        }
        let is_account = scene.settings["DropStorage"].contains("AccountKey");
        assert_eq!(first.stdout.contains("configure Event Grid"), is_account, "{}", first.stdout);
        assert!(!first.stdout.contains("sig="), "a SAS is only created on request: {}", first.stdout);

        let second = onboard(&scene, tenant, &[]).await;
        assert_eq!((second.code, &*second.stderr), (Some(0), ""));
        assert_eq!(second.stdout, first.stdout);
        assert_eq!(scene.api.registrations(), 1);
    }
}

#[tokio::test]
async fn check_reports_nothing_to_fix_for_an_onboarded_customer() {
    let (mut scene, tenant) = partner(Scene::on_azurite().await).await;
    assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    modulus(&scene, tenant);
    scene.set("TENANTS", &format!("{tenant}={tenant}"));
    scene.set("DROP_CONTAINER", "*");
    let second = onboard(&scene, tenant, &[]).await;
    assert!(second.stdout.contains("TENANTS already allows the customer's drops there"), "{}", second.stdout);
    assert!(!second.stdout.contains("set DROP_CONTAINER"), "{}", second.stdout);

    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    for part in ["unwraps what its public key wraps", ": it is registered until ", "all is well"] {
        assert!(checked.stdout.contains(part), "{part}: {}", checked.stdout);
    }
}

#[tokio::test]
async fn a_sas_allows_creating_and_overwriting_blobs_and_nothing_else() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    let ended = onboard(&scene, tenant, &["--sas-days", "3"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let url = sas_url(&ended).unwrap();
    let (container_url, query) = url.split_once('?').unwrap();
    assert_eq!(container_url, format!("{}/{tenant}", azurite::shared().blob_endpoint()));

    let endpoint = azurite::shared().blob_endpoint();
    let customer = format!("BlobEndpoint={endpoint};SharedAccessSignature={query}");
    let customer = AzureStore::new(&Account::from_connection_string(&customer).unwrap()).unwrap();
    let path = BlobPath::new(tenant.to_string(), "run/part-0.json.gz");
    for condition in [WriteIf::Absent, WriteIf::Always] {
        customer.write(&path, "rows".into(), condition).await.unwrap();
    }
    let denied = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Denied(_))), "{result:?}");
    denied(customer.find(&path).await.map(drop));
    denied(list_at_most(&customer, &tenant.to_string(), "", 1).await.map(drop));
    denied(customer.delete(&path, None).await);
    let elsewhere = BlobPath::new(state(&scene), "run/part-0.json.gz");
    denied(customer.write(&elsewhere, "rows".into(), WriteIf::Always).await.map(drop));

    for days in ["0", "366"] {
        let ended = onboard(&scene, tenant, &["--sas-days", days]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("365 days at most"), "{}", ended.stderr);
    }
}

/// The store as the holder of the SAS URL that `ended` printed sees it.
fn customer(ended: &CommandOutput) -> AzureStore {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let url = sas_url(ended).unwrap();
    let (_, query) = url.split_once('?').unwrap();
    let endpoint = azurite::shared().blob_endpoint();
    let connection = format!("BlobEndpoint={endpoint};SharedAccessSignature={query}");
    AzureStore::new(&Account::from_connection_string(&connection).unwrap()).unwrap()
}

/// The stored access policy to which the SAS URL refers.
fn policy(ended: &CommandOutput) -> String {
    let url = sas_url(ended).unwrap();
    let id = url.split('&').find_map(|pair| pair.strip_prefix("si=")).unwrap();
    percent_encoding::percent_decode_str(id).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn a_revoked_sas_is_denied_and_the_others_still_work() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    let (_, neighbour) = partner(Scene::on_azurite().await).await;
    let [first, second] =
        [onboard(&scene, tenant, &["--sas-days", "3"]).await, onboard(&scene, tenant, &["--sas-days", "3"]).await];
    let other = onboard(&scene, neighbour, &["--sas-days", "3"]).await;
    let write = async |ended: &CommandOutput, tenant: TenantId| {
        let path = BlobPath::new(tenant.to_string(), "run/part-0.json.gz");
        customer(ended).write(&path, "rows".into(), WriteIf::Always).await
    };
    for ended in [&first, &second] {
        write(ended, tenant).await.unwrap();
        assert!(ended.stdout.contains(&format!("--revoke {}", policy(ended))), "{}", ended.stdout);
    }
    let denied = |result: Result<_, StoreError>| assert!(matches!(result, Err(StoreError::Denied(_))), "{result:?}");

    let mut admitted = scene.settings.clone();
    admitted.insert("TENANTS".into(), tenant.to_string());
    let expires = async || {
        let status = output_of(vivadrop().arg("status").envs(&admitted)).await;
        status.stdout.contains(&format!("tenant {tenant}: the SAS URL expires on "))
    };
    assert!(expires().await);

    let ended = onboard(&scene, tenant, &["--revoke", &policy(&first)]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(expires().await, "the second SAS URL still expires");
    assert!(ended.stdout.starts_with(&format!("revoked {}", policy(&first))), "{}", ended.stdout);
    denied(write(&first, tenant).await);
    write(&second, tenant).await.unwrap();

    // A policy that does not exist is an error that names those that do.
    let unknown = onboard(&scene, tenant, &["--revoke", &policy(&first)]).await;
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains(&policy(&second)), "{}", unknown.stderr);

    assert_eq!(onboard(&scene, tenant, &["--revoke"]).await.code, Some(0));
    denied(write(&second, tenant).await);
    assert!(!expires().await);
    write(&other, neighbour).await.unwrap();
    let again = onboard(&scene, tenant, &["--revoke"]).await;
    assert_eq!((again.code, &*again.stdout), (Some(0), "there is no SAS to revoke\n"));
    assert_eq!(scene.api.registrations(), 2, "revoking registers nothing");
}

#[tokio::test]
async fn an_offboarded_customer_can_neither_write_nor_be_decrypted() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    let onboarded = onboard(&scene, tenant, &["--sas-days", "3"]).await;
    let path = BlobPath::new(tenant.to_string(), "run/part-0.json.gz");
    customer(&onboarded).write(&path, "rows".into(), WriteIf::Always).await.unwrap();
    let offboard = async || run(&scene, &["offboard", "--tenant", &tenant.to_string()]).await;

    let ended = offboard().await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    for part in [&policy(&onboarded), "disabled 1 version of", "remove", "the container", "the registration"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let denied = customer(&onboarded).write(&path, "rows".into(), WriteIf::Always).await;
    assert!(matches!(denied, Err(StoreError::Denied(_))), "{denied:?}");
    assert!(!scene.private_key(tenant).exists());
    let ledger = Ledger::new(Arc::clone(&scene.store), state(&scene));
    let recorded = ledger.customer(tenant).await.unwrap().unwrap();
    assert_eq!((recorded.sas_expires, recorded.sas_policy), (None, None), "no SAS URL has to be renewed");
    let again = offboard().await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("there was none to revoke") && again.stdout.contains("there was none to disable"));
    let unknown = run(&scene, &["offboard", "--tenant", APP]).await;
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
}

#[tokio::test]
async fn offboarding_says_where_the_customers_drops_remain_and_which_records_no_rule_deletes() {
    let (mut scene, tenant) = partner(Scene::in_a_folder().await).await;
    assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    let offboard = async |scene: &Scene| run(scene, &["offboard", "--tenant", &tenant.to_string()]).await.stdout;
    let tenants = |places: &[&str]| places.iter().map(|place| format!("{tenant}{place}")).collect::<Vec<_>>().join(",");
    let in_datasets = format!("  drops in `datasets`, in folders named {tenant}, until ");
    for (container, places, expected) in [
        ("datasets", tenants(&[""]), &[&*in_datasets][..]),
        ("*", tenants(&["=contoso/prefix"]), &["  drops in `contoso/prefix`, until "]),
        ("*", tenants(&["=a", "=b/c"]), &["  drops in `a`, until ", "  drops in `b/c`, until "]),
    ] {
        scene.set("DROP_CONTAINER", container);
        scene.set("TENANTS", &places);
        let printed = offboard(&scene).await;
        for line in expected.iter().copied().chain(["retentionDays", "the container `"]) {
            assert!(printed.contains(line), "{places}: {line}: {printed}");
        }
    }
    // The place is the container of the customer, which has a line of its own.
    scene.set("TENANTS", &tenants(&[&format!("={tenant}")]));
    let printed = offboard(&scene).await;
    assert!(!printed.contains("  drops in "), "{printed}");
    for folder in [
        "drops/",
        "list/",
        "customers/",
        "tenants/",
        "directories/",
        "attributes/",
        "imports/",
        "imports-due/",
        "unfinished/",
    ] {
        assert!(printed.contains(folder), "{folder}: {printed}");
    }

    scene.set("TENANTS", APP);
    let printed = offboard(&scene).await;
    assert!(printed.contains("TENANTS does not have"), "{printed}");
}

#[tokio::test]
async fn drops_that_are_not_finished_when_their_customer_is_offboarded_are_set_aside_before_their_tenant_is_removed() {
    let (mut scene, _) = partner(Scene::in_a_folder().await).await;
    let tenant = scene.tenant;
    assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    scene.set("TENANTS", &serde_json::json!({tenant.to_string(): {"paused": true}}).to_string());
    let drop = scene.drop(10, 1).await;
    scene.upload(&drop).await;
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(1));
    let offboard = async |scene: &Scene| run(scene, &["offboard", "--tenant", &tenant.to_string()]).await.stdout;
    let printed = offboard(&scene).await;
    for part in [
        "unfinished drops: 1; they wait, because TENANTS pauses the tenant",
        "end the pause, so that the unfinished drops end",
        &format!("remove {tenant} from TENANTS, but not before the unfinished drops have ended"),
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }

    scene.set("TENANTS", APP);
    let printed = sweep_and_offboard(&scene, tenant).await;
    assert!(printed.contains("sweeps skip them, because TENANTS does not have"), "{printed}");
    let status = run(&scene, &["status"]).await.stdout;
    assert!(status.contains("sweeps skip the drop") && !status.contains("pause"), "{status}");

    scene.set("TENANTS", &tenant.to_string());
    let printed = offboard(&scene).await;
    let ends = "their next run sets them aside as `no-key`, or, if only rows are missing, as `row-count` after 30 days";
    assert!(printed.contains(ends), "{printed}");
    let printed = sweep_and_offboard(&scene, tenant).await;
    assert!(!printed.contains("unfinished drops"), "{printed}");
    let status = run(&scene, &["status", &drop.path()]).await.stdout;
    for part in ["no-key", ".disabled", "cannot decrypt"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let checked = run(&scene, &["check"]).await.stdout;
    for part in [".disabled", "cannot decrypt"] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
}

/// Runs a sweep, then `offboard`; returns what the latter prints.
async fn sweep_and_offboard(scene: &Scene, tenant: TenantId) -> String {
    run(scene, &["sweep"]).await;
    run(scene, &["offboard", "--tenant", &tenant.to_string()]).await.stdout
}

#[tokio::test]
async fn a_sas_url_that_offboarding_cannot_revoke_needs_a_person() {
    let (scene, tenant, _entra, _azurite) = partner_without_account_key().await;
    assert_eq!(onboard(&scene, tenant, &["--sas-days", "7"]).await.code, Some(0));
    let ended = run(&scene, &["offboard", "--tenant", &tenant.to_string()]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("was not revoked and is valid until"), "{}", ended.stderr);
    for part in ["sas       not revoked", "key       disabled", "a SAS URL that was not revoked, until "] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn offboarding_prints_what_it_has_done_if_the_record_of_the_registration_cannot_be_parsed() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    let path = BlobPath::new(state(&scene), format!("tenants/{tenant}.json"));
    scene.store.write(&path, "not a record".into(), WriteIf::Always).await.unwrap();
    let ended = run(&scene, &["offboard", "--tenant", &tenant.to_string()]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("it is not known until when the key is registered"), "{}", ended.stderr);
    assert!(ended.stdout.contains("key       disabled"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_key_that_offboarding_has_disabled_is_never_replaced_by_a_later_one() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    // As if a person had put it there.
    scene.add_private_key(tenant, &vectors::case("encrypted-ctr").private_key());
    let path = scene.private_key(tenant);
    let first = fs::read_to_string(&path).unwrap();
    for _ in 0..2 {
        let ended = run(&scene, &["offboard", "--tenant", &tenant.to_string()]).await;
        assert_ne!(ended.code, Some(1), "{}", ended.stderr);
        assert!(!path.exists());
        assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    }
    let is_first = |entry: io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|end| end == "disabled") && fs::read_to_string(path).unwrap() == first
    };
    assert!(fs::read_dir(path.parent().unwrap()).unwrap().any(is_first), "the first key is lost");
}

#[tokio::test]
async fn every_version_of_an_offboarded_customer_s_key_is_disabled_in_the_vault() {
    let (mut scene, tenant) = partner(Scene::in_a_folder().await).await;
    let entra = Entra::start().await;
    let vault = KeyVault::start(&entra).await;
    scene.settings.extend(entra.with_managed_identity());
    scene.set("PRIVATE_KEYS", vault.url().as_str());
    for arguments in [&[][..], &["--rotate"]] {
        let ended = onboard(&scene, tenant, arguments).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let ended = run(&scene, &["offboard", "--tenant", &tenant.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("disabled 2 versions"), "{}", ended.stdout);
    let patched = vault.requests().iter().filter(|request| request.starts_with("PATCH")).count();
    assert_eq!(patched, 2);
}

#[tokio::test]
async fn a_sixth_sas_is_refused_until_one_is_revoked() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    let mut policies = Vec::new();
    for _ in 0..5 {
        policies.push(policy(&onboard(&scene, tenant, &["--sas-days", "3"]).await));
    }
    let sixth = onboard(&scene, tenant, &["--sas-days", "3"]).await;
    assert_eq!(sixth.code, Some(3), "{}", sixth.stderr);
    for part in ["five", "--revoke", &policies[0], &policies[4]] {
        assert!(sixth.stderr.contains(part), "{part}: {}", sixth.stderr);
    }
    assert_eq!(onboard(&scene, tenant, &["--revoke", &policies[0]]).await.code, Some(0));
    assert_eq!(onboard(&scene, tenant, &["--sas-days", "3"]).await.code, Some(0));
}

#[tokio::test]
async fn a_sas_without_an_account_key_is_signed_by_the_apps_identity() {
    let (scene, tenant, entra, _azurite) = partner_without_account_key().await;
    let ended = onboard(&scene, tenant, &["--sas-days", "8"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("7 days at most"), "{}", ended.stderr);
    assert_eq!(scene.api.registrations(), 0, "an impossible validity is rejected before anything is changed");

    let ended = onboard(&scene, tenant, &["--sas-days", "7"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("cannot be revoked alone"), "{}", ended.stdout);
    let revoked = onboard(&scene, tenant, &["--revoke"]).await;
    assert_eq!(revoked.code, Some(2), "{}", revoked.stderr);
    assert!(revoked.stderr.contains("revoke-delegation-keys"), "{}", revoked.stderr);
    let url = SecretString::from(sas_url(&ended).unwrap());
    let (container_url, query) = secrecy::ExposeSecret::expose_secret(&url).split_once('?').unwrap();
    let client = entra.certificate.client();
    let blob = format!("{container_url}/part-0?{query}");
    let put = client.put(&blob).header("x-ms-blob-type", "BlockBlob").body("rows").send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    assert_eq!(client.get(&blob).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_rotation_keeps_the_previous_key_for_drops_in_progress() {
    let (scene, _) = partner(Scene::in_a_folder().await).await;
    // An existing key is registered.
    let tenant = scene.tenant;
    let first = onboard(&scene, tenant, &[]).await;
    assert_eq!(first.stderr, "registered the key\ncreated a container\n");
    let old = modulus(&scene, tenant);
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, old);
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    let rotated = onboard(&scene, tenant, &["--rotate", "--expires-in", "100d"]).await;
    assert_eq!((rotated.code, &*rotated.stderr), (Some(0), "created a key\nregistered the key\n"));
    let new = modulus(&scene, tenant);
    assert_ne!(new, old);
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, new);
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn an_interrupted_run_is_completed_by_the_next_one() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    scene.api.answer_always(Behaviour::Status { status: 403, body: String::new() });
    let denied = onboard(&scene, tenant, &[]).await;
    assert_eq!(denied.code, Some(3), "{}", denied.stderr);
    assert!(denied.stderr.contains("denies permission to register keys (HTTP 403"), "{}", denied.stderr);
    let key = modulus(&scene, tenant);
    assert_eq!(record(&scene, tenant).await.unwrap().get("registered"), None);

    scene.api.answer_always(Behaviour::Normal);
    assert_eq!(onboard(&scene, tenant, &[]).await.stderr, "registered the key\ncreated a container\n");
    assert_eq!(modulus(&scene, tenant), key, "the same key");
    let completed = record(&scene, tenant).await.unwrap();
    assert_eq!(completed["api"].as_str().unwrap(), scene.api.url().as_str().trim_end_matches('/'));

    // Interrupted before the record was written, and then in the middle of a rotation.
    let path = BlobPath::new(state(&scene), format!("tenants/{tenant}.json"));
    scene.store.delete(&path, None).await.unwrap();
    assert_eq!(onboard(&scene, tenant, &[]).await.stderr, "registered the key\n");
    let older = scene.private_key(tenant).with_file_name("older");
    fs::rename(scene.private_key(tenant), older).unwrap();
    fs::copy(vectors::case("encrypted-ctr").private_key(), scene.private_key(tenant)).unwrap();
    fs::remove_file(scene.private_key(scene.tenant)).unwrap();
    assert_eq!(onboard(&scene, tenant, &["--rotate"]).await.stderr, "registered the key\n", "no third key");
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, modulus(&scene, tenant));
}

#[tokio::test]
async fn the_key_of_another_customer_is_not_registered() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    fs::copy(scene.private_key(scene.tenant), scene.private_key(tenant)).unwrap();
    let ended = onboard(&scene, tenant, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let message = format!("the key of {tenant} is also the key of {}", scene.tenant);
    assert!(ended.stderr.contains(&message) && ended.stderr.contains("--rotate"), "{}", ended.stderr);
    assert_eq!(scene.api.requests(), 0, "nothing was sent to the API");

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!((rotated.code, scene.api.registrations()), (Some(0), 1), "{}", rotated.stderr);
}

#[tokio::test]
async fn the_apis_error_code_is_reported_and_its_message_is_not_quoted() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    let body = r#"{"error":{"code":"DuplicateKey","message":"secret words"}}"#.to_owned();
    scene.api.answer_always(Behaviour::Status { status: 400, body });
    let ended = onboard(&scene, tenant, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("(HTTP 400 Bad Request, DuplicateKey)"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret words"), "{}", ended.stderr);
}

#[tokio::test]
async fn all_missing_settings_are_reported_at_once() {
    let tenant = uuid::Uuid::new_v4().to_string();
    let ended = output_of(vivadrop().args(["onboard", "--tenant", &tenant]).env("PARTNER_APP_ID", "app")).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in
        ["DropStorage is not set", "PRIVATE_KEYS is not set", "PARTNER_TENANT_ID is not set", "PARTNER_APP_ID is"]
    {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(ended.stderr.starts_with("4 settings are not usable"), "{}", ended.stderr);
    let ended = output_of(vivadrop().args(["onboard", "--tenant", "contoso"])).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

/// A partner whose keys are in a vault.
async fn with_a_vault() -> (Scene, TenantId, Entra, KeyVault) {
    let (mut scene, tenant) = partner(Scene::in_a_folder().await).await;
    let entra = Entra::start().await;
    let vault = KeyVault::start(&entra).await;
    entra.add_secrets(&scene.secrets);
    scene.settings.extend(entra.with_secret());
    scene.set("PRIVATE_KEYS", vault.url().as_str());
    scene.set("TENANTS", &format!("{tenant}={tenant}"));
    scene.set("DROP_CONTAINER", "*");
    (scene, tenant, entra, vault)
}

#[tokio::test]
async fn check_and_sweep_warn_before_a_key_in_a_vault_expires() {
    let (scene, tenant, _entra, _vault) = with_a_vault().await;
    let first = onboard(&scene, tenant, &["--expires-in", "20d"]).await;
    assert_eq!((first.code, &*first.stderr), (Some(0), "created a key\nregistered the key\ncreated a container\n"));
    assert_eq!(onboard(&scene, tenant, &[]).await.stdout, first.stdout);
    let old = scene.api.partner_keys();

    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(3), "{}", checked.stdout);
    assert!(checked.stdout.contains("its key expires on "), "{}", checked.stdout);
    assert!(checked.stdout.contains("-> run `vivadrop onboard --rotate --tenant "), "{}", checked.stdout);
    let swept = run(&scene, &["sweep"]).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert!(swept.stderr.contains("WARN") && swept.stderr.contains("its key expires on "), "{}", swept.stderr);
    let status = run(&scene, &["status"]).await;
    assert_eq!(status.code, Some(3), "{}", status.stderr);
    assert!(status.stdout.contains(&format!("tenant {tenant}: the key expires on ")), "{}", status.stdout);

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!((rotated.code, &*rotated.stderr), (Some(0), "created a key\nregistered the key\n"));
    assert_ne!(scene.api.partner_keys(), old);
    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    assert!(!run(&scene, &["sweep"]).await.stderr.contains("expires"));
}

#[tokio::test]
async fn an_unusable_key_in_a_vault_is_reported_before_anything_is_registered() {
    let (scene, tenant, _entra, vault) = with_a_vault().await;
    let pem = fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap();
    vault.import(tenant, RsaPrivateKey::from_pkcs8_pem(&pem).unwrap());
    let ended = onboard(&scene, tenant, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("has no expiry date"), "{}", ended.stderr);
    let checked = run(&scene, &["check"]).await;
    assert!(checked.stdout.contains("it has no expiry date"), "{}", checked.stdout);

    vault.disable(tenant);
    let ended = onboard(&scene, tenant, &[]).await;
    assert!(ended.stderr.contains("is disabled"), "{}", ended.stderr);
    assert!(run(&scene, &["check"]).await.stdout.contains("is disabled -> enable it"), "check reports it too");
    assert_eq!(scene.api.registrations(), 0);

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
}
