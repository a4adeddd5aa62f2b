//! `vivadrop check`: a line for everything that was looked at, and an exit code for the whole.

use std::{fs, net::Ipv4Addr, time::Duration};

use secrecy::ExposeSecret;
use serde_json::json;
use testkit::{
    receiver::{Answer, Options, Receiver},
    viva_api::Behaviour,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use vivadrop::{
    drop::TenantId,
    store::{BlobPath, WriteIf},
};

use crate::support::{
    azurite,
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::Scene,
    vault::{self, KeyVault},
};

async fn check(scene: &Scene) -> CommandOutput {
    let ended = output_of(vivadrop().arg("check").envs(&scene.settings)).await;
    scene.secrets.check(&ended.stdout);
    scene.secrets.check(&ended.stderr);
    assert!(!ended.stdout.contains('\u{1b}'), "no colour where nobody looks: {}", ended.stdout);
    ended
}

/// The lines about `what`, with the word before it.
fn lines<'a>(ended: &'a CommandOutput, what: &str) -> Vec<(&'a str, &'a str)> {
    let line = |line: &'a str| {
        let (state, rest) = line.split_once("  ")?;
        let (about, text) = rest.trim_start().split_once("  ")?;
        (about == what).then(|| (state.trim(), text.trim_start()))
    };
    ended.stdout.lines().filter_map(line).collect()
}

/// Checks the exit code, and that there is a line about `about` in this `state` that has all of `parts` in it.
fn assert_found(ended: &CommandOutput, code: i32, state: &str, about: &str, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.stdout);
    let found = lines(ended, about);
    let is_it = |(word, text): &(&str, &str)| *word == state && parts.iter().all(|part| text.contains(part));
    assert!(found.iter().any(is_it), "{state} {about} {parts:?}:\n{}", ended.stdout);
}

/// A scene in which nothing is missing.
async fn in_order(mut scene: Scene) -> Scene {
    scene.store.make_container(&scene.container).await.unwrap();
    let state = scene.settings.entry("STATE_CONTAINER".into()).or_insert_with(|| "vivadrop-state".into());
    scene.store.make_container(state).await.unwrap();
    scene
}

async fn state_blobs(scene: &Scene) -> Vec<String> {
    let blobs = scene.store.list(&scene.settings["STATE_CONTAINER"], "").await.unwrap();
    blobs.into_iter().map(|blob| blob.path.name).collect()
}

#[tokio::test]
async fn all_is_well_where_nothing_is_missing_and_nothing_is_left_behind() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let scene = in_order(scene).await;
        let drop = scene.drop(10, 1).await;
        scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        assert_eq!(output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await.code, Some(0));
        let (asked, before) = (scene.api.key_requests().len(), state_blobs(&scene).await);

        let ended = check(&scene).await;
        for about in ["settings", "drops", "state", "ledger", "key", "token", "api", "sink"] {
            let found = lines(&ended, about);
            assert!(found.iter().all(|(state, _)| ["ok", "note"].contains(state)), "{}", ended.stdout);
            assert!(!found.is_empty(), "{about}: {}", ended.stdout);
        }
        assert_found(&ended, 0, "ok", "ledger", &["completed drops: 1, set-aside drops: 0"]);
        assert!(ended.stdout.ends_with("all is well\n"), "{}", ended.stdout);
        assert_eq!(state_blobs(&scene).await, before, "the probe is gone");
        assert_eq!(scene.api.key_requests().len(), asked + 1, "one question, about no drop");
        let received = scene.receiver.received();
        assert_eq!((received.checks, received.bad_signatures, received.malformed), (1, 0, 0));
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_the_settings_is_said() {
    let ended = output_of(vivadrop().arg("check").env("IN_FLIGHT", "many")).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), ""));
    for name in ["DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO", "IN_FLIGHT"] {
        let found = lines(&ended, "settings");
        assert!(found.iter().any(|(state, text)| *state == "mend" && text.starts_with(name)), "{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("5 to mend\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn each_thing_that_is_wrong_has_its_line_and_what_to_do() {
    type Break = fn(&mut Scene);
    let table: &[(Break, i32, &str, &str, &[&str])] = &[
        (
            |scene| fs::remove_file(scene.private_key(scene.tenant)).unwrap(),
            3,
            "mend",
            "key",
            &["there is no `", "-> run `vivadrop onboard --tenant "],
        ),
        (|scene| fs::write(scene.private_key(scene.tenant), "no key").unwrap(), 3, "mend", "key", &["is no PEM file"]),
        (|scene| scene.set("DROP_CONTAINER", "nowhere"), 3, "mend", "drops", &["`nowhere`", "no such container", "->"]),
        (|scene| scene.set("STATE_CONTAINER", "nowhere"), 0, "note", "state", &["`nowhere`", "not there yet"]),
        (
            |scene| {
                let other = TenantId(uuid::Uuid::new_v4());
                scene.add_private_key(other, &scene.private_key(scene.tenant));
                scene.set("TENANTS", &format!("{},{other}", scene.tenant));
            },
            3,
            "mend",
            "tenants",
            &["2 tenants", "-> give each customer who holds a SAS a container of its own"],
        ),
        (
            |scene| scene.set("TENANTS", &format!("{}=elsewhere", scene.tenant)),
            3,
            "mend",
            "tenants",
            &["drop in `elsewhere`, and DROP_CONTAINER does not", "set DROP_CONTAINER=*"],
        ),
        (|scene| scene.receiver.answer_always(Answer::status(401)), 3, "mend", "sink", &["HTTP 401", "WEBHOOK_SECRET"]),
        (
            |scene| scene.set("DELIVER_TO", scene.receiver.not_found_url().as_str()),
            3,
            "mend",
            "sink",
            &["HTTP 404", "check DELIVER_TO"],
        ),
        (
            |scene| scene.set("WEBHOOK_SECRET", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"),
            3,
            "mend",
            "sink",
            &["HTTP 401"],
        ),
        (|scene| scene.receiver.answer_always(Answer::status(503)), 1, "again", "sink", &["HTTP 503", "-> see that"]),
        (|scene| scene.api.require_token("hunter2"), 3, "mend", "api", &["HTTP 401", "check PARTNER_TENANT_ID"]),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 404, body: "no such page".into() }),
            3,
            "mend",
            "api",
            &["HTTP 404", "check VIVA_API_URL"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 200, body: "<html>".into() }),
            3,
            "mend",
            "api",
            &["HTTP 200", "check VIVA_API_URL"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Disconnect),
            1,
            "again",
            "api",
            &["did not answer", "-> see that it is up"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 503, body: String::new() }),
            1,
            "again",
            "api",
            &["HTTP 503"],
        ),
    ];
    for (break_it, code, state, about, parts) in table {
        let mut scene = in_order(Scene::in_a_folder().await).await;
        break_it(&mut scene);
        let ended = check(&scene).await;
        assert_found(&ended, *code, state, about, parts);
        // The rest was looked at all the same, and nothing else is wrong.
        let others = ended.stdout.lines().filter(|line| line.starts_with("mend ") || line.starts_with("again "));
        assert_eq!(others.count(), usize::from(*code != 0), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn a_container_of_their_own_is_what_customers_should_have() {
    let mut scene = in_order(Scene::in_a_folder().await).await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &scene.private_key(scene.tenant));
    let own = |tenant: TenantId| format!("{tenant}={tenant}");
    scene.set("TENANTS", &format!("{},{}", own(scene.tenant), own(other)));
    scene.set("DROP_CONTAINER", "*");
    for tenant in [scene.tenant, other] {
        scene.store.make_container(&tenant.to_string()).await.unwrap();
    }
    let ended = check(&scene).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_eq!((lines(&ended, "drops").len(), lines(&ended, "tenants").len()), (2, 0), "{}", ended.stdout);

    // Places in one container are no better than the short form: a SAS is a container's.
    scene.set("TENANTS", &format!("{}=shared/a,{other}=shared/b", scene.tenant));
    scene.store.make_container("shared").await.unwrap();
    assert_found(&check(&scene).await, 3, "mend", "tenants", &["2 tenants drop in `shared`"]);
}

#[tokio::test]
async fn what_the_ledger_holds_is_counted_and_what_it_cannot_read_is_named() {
    let scene = in_order(Scene::in_a_folder().await).await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_next(1, Answer::status(400));
    assert_eq!(output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await.code, Some(3));
    let ended = check(&scene).await;
    assert_found(&ended, 0, "note", "ledger", &["set-aside drops: 1, set-aside files: 1", "-> their records say why"]);

    let state = &scene.settings["STATE_CONTAINER"];
    let record = BlobPath::new(state, format!("drops/{}/drop.json", drop.path()));
    scene.store.write(&record, "no record".into(), WriteIf::Always).await.unwrap();
    assert_found(&check(&scene).await, 3, "mend", "ledger", &["drop.json` is no record", "mend it, or delete it"]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_or_does_not_let_us_in_is_told_apart() {
    let mut scene = in_order(Scene::on_azurite().await).await;
    let good = scene.settings["DropStorage"].clone();
    // The right account, and the wrong key.
    scene.set("DropStorage", &good.replace(azurite::KEY, "bm90IHRoZSBrZXk="));
    let ended = check(&scene).await;
    for about in ["drops", "state", "ledger"] {
        assert_found(&ended, 3, "mend", about, &["denies access", "grant Storage Blob Data Owner"]);
    }
    assert_found(&ended, 3, "ok", "sink", &["was taken"]);
    assert_found(&ended, 3, "ok", "clock", &["agree"]);

    let endpoint = azurite::shared().blob_endpoint();
    scene.set("DropStorage", &good.replace(&endpoint, "http://127.0.0.1:9/devstoreaccount1"));
    let ended = check(&scene).await;
    for about in ["clock", "drops", "state", "ledger"] {
        assert_found(&ended, 1, "again", about, &["-> see that the account of DropStorage is up"]);
    }
}

#[tokio::test]
async fn the_destination_that_a_tenant_has_of_its_own_is_asked_as_well() {
    let mut scene = in_order(Scene::in_a_folder().await).await;
    let own = Receiver::start(Options::default()).await.unwrap();
    let secret = own.secret().expose_secret();
    scene.secrets.add("the secret of the tenant's own receiver", secret);
    let tenants = json!({scene.tenant.to_string(): {"DELIVER_TO": own.url().as_str(), "WEBHOOK_SECRET": secret}});
    scene.set("TENANTS", &tenants.to_string());
    let ended = check(&scene).await;
    assert_eq!((ended.code, lines(&ended, "sink").len()), (Some(0), 2), "{}", ended.stdout);
    assert_eq!((scene.receiver.received().checks, own.received().checks), (1, 1));

    own.answer_always(Answer::status(403));
    let of = format!("to the destination of {}", scene.tenant);
    assert_found(&check(&scene).await, 3, "mend", "sink", &[&of, "HTTP 403"]);
}

#[tokio::test]
async fn a_vault_that_does_not_answer_or_does_not_let_us_in_is_told_apart() {
    let mut scene = in_order(Scene::in_a_folder().await).await;
    let entra = Entra::start().await;
    let mut vault = KeyVault::start(&entra).await;
    entra.add_secrets(&scene.secrets);
    scene.settings.extend(entra.with_managed_identity());
    scene.set("PRIVATE_KEYS", vault.url().as_str());
    assert_found(&check(&scene).await, 3, "mend", "key", &["there is no `https://localhost", "onboard --tenant"]);
    vault.answer_always(vault::Behaviour::Denied("ForbiddenByRbac"));
    assert_found(&check(&scene).await, 3, "mend", "key", &["Key Vault Crypto User"]);
    vault.stop().await;
    assert_found(&check(&scene).await, 1, "again", "key", &["did not answer", "-> see that it is up"]);
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_even_where_nothing_else_works() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let yesterday = httpdate::fmt_http_date(std::time::SystemTime::now() - Duration::from_secs(86_400));
    let refusing = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            let head = format!("HTTP/1.1 403 Forbidden\r\nDate: {yesterday}\r\nConnection: close\r\n");
            // Whoever hung up meanwhile is not told.
            let _unheard = stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    let mut scene = Scene::in_a_folder().await;
    let key = azurite::KEY;
    scene.set("DropStorage", &format!("AccountName=acct;AccountKey={key};BlobEndpoint=http://{address}/acct"));
    let ended = check(&scene).await;
    assert_found(&ended, 3, "mend", "clock", &["ours is 24 h 0 min ahead of it", "-> set this machine's clock"]);
    assert_found(&ended, 3, "mend", "drops", &["denies access"]);
    refusing.abort();
}
