//! `vivadrop onboard`: a customer is let in, once, whatever came in between.

use std::{fs, os::unix::fs::PermissionsExt};

use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use secrecy::SecretString;
use serde_json::Value;
use testkit::viva_api::Behaviour;
use vivadrop::{
    drop::TenantId,
    store::{
        BlobPath, Store, StoreError, WriteIf,
        azure::{Account, AzureStore},
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

/// A partner, and a customer who is not in yet.
async fn partner(mut scene: Scene) -> (Scene, TenantId) {
    scene.set("PARTNER_TENANT_ID", PARTNER);
    scene.set("PARTNER_APP_ID", APP);
    (scene, TenantId(uuid::Uuid::new_v4()))
}

async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    ended
}

async fn onboard(scene: &Scene, tenant: TenantId, more: &[&str]) -> CommandOutput {
    run(scene, &[&["onboard", "--tenant", &tenant.to_string()], more].concat()).await
}

fn state(scene: &Scene) -> String {
    scene.settings.get("STATE_CONTAINER").cloned().unwrap_or_else(|| "vivadrop-state".into())
}

/// The record of the customer, if there is one.
async fn record(scene: &Scene, tenant: TenantId) -> Option<Value> {
    let path = BlobPath::new(state(scene), format!("tenants/{tenant}.json"));
    let blob = scene.store.find(&path).await.unwrap()?;
    let bytes = vivadrop::store::read_whole(&*scene.store, &blob, 10_000).await.unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn modulus(scene: &Scene, tenant: TenantId) -> Vec<u8> {
    let pem = fs::read_to_string(scene.private_key(tenant)).unwrap();
    scene.secrets.add_pem(&pem);
    RsaPrivateKey::from_pkcs8_pem(&pem).unwrap().n().to_bytes_be()
}

/// The line of `stdout` behind the one that ends in `(…; a secret):`.
fn sas_url(ended: &CommandOutput) -> Option<String> {
    let mut lines = ended.stdout.lines().skip_while(|line| !line.contains("a secret"));
    lines.nth(1).map(|line| line.trim().to_owned())
}

#[tokio::test]
async fn a_customer_is_let_in_and_running_it_again_changes_nothing() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let (scene, tenant) = partner(scene).await;
        let first = onboard(&scene, tenant, &[]).await;
        assert_eq!((first.code, &*first.stderr), (Some(0), "made a key\nregistered it\nmade a container\n"));
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
            ", good until ",
        ] {
            assert!(first.stdout.contains(part), "{part}: {}", first.stdout);
        }
        let is_account = scene.settings["DropStorage"].contains("AccountKey");
        assert_eq!(first.stdout.contains("let Event Grid send"), is_account, "{}", first.stdout);
        assert!(!first.stdout.contains("sig="), "a secret is made when it is asked for: {}", first.stdout);

        let again = onboard(&scene, tenant, &[]).await;
        assert_eq!((again.code, &*again.stderr), (Some(0), ""));
        assert_eq!(again.stdout, first.stdout);
        assert_eq!(scene.api.registrations(), 1);
    }
}

#[tokio::test]
async fn who_is_let_in_can_drop_and_is_found_in_order() {
    let (mut scene, tenant) = partner(Scene::on_azurite().await).await;
    assert_eq!(onboard(&scene, tenant, &[]).await.code, Some(0));
    modulus(&scene, tenant);
    scene.set("TENANTS", &format!("{tenant}={tenant}"));
    scene.set("DROP_CONTAINER", "*");
    let again = onboard(&scene, tenant, &[]).await;
    assert!(again.stdout.contains("TENANTS lets them drop there already"), "{}", again.stdout);
    assert!(!again.stdout.contains("set DROP_CONTAINER"), "{}", again.stdout);

    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    for part in ["unwraps what its public half encrypts", "lasts: it is registered until ", "all is well"] {
        assert!(checked.stdout.contains(part), "{part}: {}", checked.stdout);
    }
}

#[tokio::test]
async fn a_sas_lets_its_holder_drop_and_do_nothing_else() {
    let (scene, tenant) = partner(Scene::on_azurite().await).await;
    let ended = onboard(&scene, tenant, &["--sas-days", "3"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let url = sas_url(&ended).unwrap();
    let (place, query) = url.split_once('?').unwrap();
    assert_eq!(place, format!("{}/{tenant}", azurite::shared().blob_endpoint()));

    let endpoint = azurite::shared().blob_endpoint();
    let customer = format!("BlobEndpoint={endpoint};SharedAccessSignature={query}");
    let customer = AzureStore::new(&Account::from_connection_string(&customer).unwrap()).unwrap();
    let path = BlobPath::new(tenant.to_string(), "run/part-0.json.gz");
    for condition in [WriteIf::Absent, WriteIf::Always] {
        customer.write(&path, "rows".into(), condition).await.unwrap();
    }
    let denied = |answer: Result<(), StoreError>| assert!(matches!(answer, Err(StoreError::Denied(_))), "{answer:?}");
    denied(customer.find(&path).await.map(drop));
    denied(customer.list(&tenant.to_string(), "").await.map(drop));
    denied(customer.delete(&path).await);
    let elsewhere = BlobPath::new(state(&scene), "run/part-0.json.gz");
    denied(customer.write(&elsewhere, "rows".into(), WriteIf::Always).await.map(drop));

    for days in ["0", "366"] {
        let ended = onboard(&scene, tenant, &["--sas-days", days]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("365 days at most"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_sas_without_an_account_key_is_signed_for_our_identity() {
    let entra = Entra::start().await;
    let azurite = Azurite::with_tokens(&entra.certificate);
    let (mut scene, tenant) = partner(Scene::in_a_folder().await).await;
    entra.add_secrets(&scene.secrets);
    scene.settings.extend(entra.with_secret());
    scene.settings.remove("DropStorage");
    scene.set("DropStorage__blobServiceUri", &azurite.blob_endpoint());
    scene.set("DropStorage__queueServiceUri", &azurite.queue_endpoint());
    let ended = onboard(&scene, tenant, &["--sas-days", "8"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("7 days at most"), "{}", ended.stderr);
    assert_eq!(scene.api.registrations(), 0, "what cannot be done is said before anything is");

    let ended = onboard(&scene, tenant, &["--sas-days", "7"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let url = SecretString::from(sas_url(&ended).unwrap());
    let (place, query) = secrecy::ExposeSecret::expose_secret(&url).split_once('?').unwrap();
    let client = entra.certificate.client();
    let blob = format!("{place}/part-0?{query}");
    let put = client.put(&blob).header("x-ms-blob-type", "BlockBlob").body("rows").send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    assert_eq!(client.get(&blob).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_new_key_follows_the_old_one_which_still_opens_what_is_under_way() {
    let (scene, _) = partner(Scene::in_a_folder().await).await;
    // The key that is there already is taken.
    let tenant = scene.tenant;
    let taken = onboard(&scene, tenant, &[]).await;
    assert_eq!(taken.stderr, "registered it\nmade a container\n");
    let old = modulus(&scene, tenant);
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, old);
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    let rotated = onboard(&scene, tenant, &["--rotate", "--expires-in", "100d"]).await;
    assert_eq!((rotated.code, &*rotated.stderr), (Some(0), "made a key\nregistered it\n"));
    let new = modulus(&scene, tenant);
    assert_ne!(new, old);
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, new);
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn what_was_cut_off_is_ended_by_the_next_run() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    scene.api.answer_always(Behaviour::Status { status: 403, body: String::new() });
    let refused = onboard(&scene, tenant, &[]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("does not let us register keys (HTTP 403"), "{}", refused.stderr);
    let key = modulus(&scene, tenant);
    assert_eq!(record(&scene, tenant).await.unwrap().get("registered"), None);

    scene.api.answer_always(Behaviour::Normal);
    assert_eq!(onboard(&scene, tenant, &[]).await.stderr, "registered it\nmade a container\n");
    assert_eq!(modulus(&scene, tenant), key, "the same key");
    let whole = record(&scene, tenant).await.unwrap();
    assert_eq!(whole["api"].as_str().unwrap(), scene.api.url().as_str().trim_end_matches('/'));

    // Cut off before anything was on record, before the container, or in the middle of a rotation.
    let path = BlobPath::new(state(&scene), format!("tenants/{tenant}.json"));
    scene.store.delete(&path).await.unwrap();
    assert_eq!(onboard(&scene, tenant, &[]).await.stderr, "registered it\n");
    let older = scene.private_key(tenant).with_file_name("older");
    fs::rename(scene.private_key(tenant), older).unwrap();
    fs::copy(vectors::case("encrypted-ctr").private_key(), scene.private_key(tenant)).unwrap();
    fs::remove_file(scene.private_key(scene.tenant)).unwrap();
    assert_eq!(onboard(&scene, tenant, &["--rotate"]).await.stderr, "registered it\n", "no third key");
    assert_eq!(scene.api.partner_keys()[&tenant.to_string()].modulus, modulus(&scene, tenant));
}

#[tokio::test]
async fn a_key_of_another_customer_is_not_registered() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    fs::copy(scene.private_key(scene.tenant), scene.private_key(tenant)).unwrap();
    let ended = onboard(&scene, tenant, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let said = format!("the key of {tenant} is also the key of {}", scene.tenant);
    assert!(ended.stderr.contains(&said) && ended.stderr.contains("--rotate"), "{}", ended.stderr);
    assert_eq!(scene.api.requests(), 0, "the service was not asked");

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!((rotated.code, scene.api.registrations()), (Some(0), 1), "{}", rotated.stderr);
}

#[tokio::test]
async fn the_service_may_refuse_what_we_could_not_know() {
    let (scene, tenant) = partner(Scene::in_a_folder().await).await;
    let body = r#"{"error":{"code":"DuplicateKey","message":"secret words"}}"#.to_owned();
    scene.api.answer_always(Behaviour::Status { status: 400, body });
    let ended = onboard(&scene, tenant, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("(HTTP 400 Bad Request, DuplicateKey)"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret words"), "{}", ended.stderr);
}

#[tokio::test]
async fn all_settings_that_it_needs_are_asked_for_at_once() {
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
async fn a_vault_makes_keys_with_an_expiry_date_which_is_spoken_of_in_time() {
    let (scene, tenant, _entra, _vault) = with_a_vault().await;
    let first = onboard(&scene, tenant, &["--expires-in", "20d"]).await;
    assert_eq!((first.code, &*first.stderr), (Some(0), "made a key\nregistered it\nmade a container\n"));
    assert_eq!(onboard(&scene, tenant, &[]).await.stdout, first.stdout);
    let old = scene.api.partner_keys();

    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(3), "{}", checked.stdout);
    assert!(checked.stdout.contains("its key expires on "), "{}", checked.stdout);
    assert!(checked.stdout.contains("-> run `vivadrop onboard --rotate --tenant "), "{}", checked.stdout);
    let swept = run(&scene, &["sweep"]).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert!(swept.stderr.contains("WARN") && swept.stderr.contains("its key expires on "), "{}", swept.stderr);

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!((rotated.code, &*rotated.stderr), (Some(0), "made a key\nregistered it\n"));
    assert_ne!(scene.api.partner_keys(), old);
    let checked = run(&scene, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    assert!(!run(&scene, &["sweep"]).await.stderr.contains("expires"));
}

#[tokio::test]
async fn a_key_of_a_vault_that_cannot_be_used_is_told_before_the_service_is() {
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
    assert!(run(&scene, &["check"]).await.stdout.contains("is disabled -> enable it"), "check says so too");
    assert_eq!(scene.api.registrations(), 0);

    let rotated = onboard(&scene, tenant, &["--rotate"]).await;
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
}
