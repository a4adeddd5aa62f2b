//! `vivadrop check`: one line per finding, and the exit code of the worst.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt, process::Stdio, time::Duration};

use secrecy::ExposeSecret;
use serde_json::json;
use testkit::{
    receiver::{Answer, Options, Receiver},
    viva_api::Behaviour,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use vivadrop::{
    drop::TenantId,
    store::{BlobPath, WriteIf, list_at_most},
};

use crate::support::{
    azurite,
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::Scene,
    vault::{self, KeyVault},
};

/// Runs `vivadrop check`; its output must contain no secret and no colours.
async fn check(scene: &Scene) -> CommandOutput {
    let ended = output_of(vivadrop().arg("check").envs(&scene.settings)).await;
    scene.secrets.check(&ended.stdout);
    scene.secrets.check(&ended.stderr);
    assert!(!ended.stdout.contains('\u{1b}'), "no colours unless stdout is a terminal: {}", ended.stdout);
    ended
}

/// Severity and text of the findings about `subject`.
fn findings<'a>(ended: &'a CommandOutput, subject: &str) -> Vec<(&'a str, &'a str)> {
    let line = |line: &'a str| {
        let (severity, rest) = line.split_once("  ")?;
        let (about, text) = rest.trim_start().split_once("  ")?;
        (about == subject).then(|| (severity.trim(), text.trim_start()))
    };
    ended.stdout.lines().filter_map(line).collect()
}

/// Asserts the exit code, and a finding about `subject` with this `severity` and all of `parts` in its text.
fn assert_found(ended: &CommandOutput, code: i32, severity: &str, subject: &str, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.stdout);
    let matches = |(found, text): &(&str, &str)| *found == severity && parts.iter().all(|part| text.contains(part));
    assert!(findings(ended, subject).iter().any(matches), "{severity} {subject} {parts:?}:\n{}", ended.stdout);
}

/// Creates the containers of `scene`, so that it has nothing to fix.
async fn complete(mut scene: Scene) -> Scene {
    scene.store.create_container(&scene.container).await.unwrap();
    let state = scene.settings.entry("STATE_CONTAINER".into()).or_insert_with(|| "vivadrop-state".into());
    scene.store.create_container(state).await.unwrap();
    scene
}

/// The names of all blobs in the state container.
async fn state_blobs(scene: &Scene) -> Vec<String> {
    let blobs = list_at_most(&*scene.store, &scene.settings["STATE_CONTAINER"], "", 1_000).await.unwrap().unwrap();
    blobs.into_iter().map(|blob| blob.path.name).collect()
}

#[tokio::test]
async fn a_complete_setup_has_no_findings_to_fix_and_the_probe_is_deleted() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let scene = complete(scene).await;
        let drop = scene.drop(10, 1).await;
        scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        assert_eq!(output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await.code, Some(0));
        let (requests, before) = (scene.api.key_requests().len(), state_blobs(&scene).await);

        let ended = check(&scene).await;
        for subject in ["settings", "drops", "state", "ledger", "key", "token", "api", "sink"] {
            let found = findings(&ended, subject);
            assert!(found.iter().all(|(severity, _)| ["ok", "note"].contains(severity)), "{}", ended.stdout);
            assert!(!found.is_empty(), "{subject}: {}", ended.stdout);
        }
        assert_found(&ended, 0, "ok", "ledger", &["completed drops: 1, set-aside drops: 0"]);
        assert!(ended.stdout.ends_with("all is well\n"), "{}", ended.stdout);
        assert_eq!(state_blobs(&scene).await, before, "the probe is deleted");
        assert_eq!(scene.api.key_requests().len(), requests + 1, "one dummy request");
        let received = scene.receiver.received();
        assert_eq!((received.checks, received.bad_signatures, received.malformed), (1, 0, 0));
    }
}

#[tokio::test]
async fn every_invalid_setting_is_reported() {
    let ended = output_of(vivadrop().arg("check").env("IN_FLIGHT", "many")).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), ""));
    for name in ["DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO", "IN_FLIGHT"] {
        let found = findings(&ended, "settings");
        assert!(found.iter().any(|(severity, text)| *severity == "fix" && text.starts_with(name)), "{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("5 to fix\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn each_problem_is_one_finding_that_says_how_to_fix_it() {
    type Break = fn(&mut Scene);
    let table: &[(Break, i32, &str, &str, &[&str])] = &[
        (
            |scene| fs::remove_file(scene.private_key(scene.tenant)).unwrap(),
            3,
            "fix",
            "key",
            &["there is no `", "-> run `vivadrop onboard --tenant "],
        ),
        (
            |scene| fs::write(scene.private_key(scene.tenant), "no key").unwrap(),
            3,
            "fix",
            "key",
            &["is not a PEM file"],
        ),
        (
            |scene| fs::set_permissions(scene.private_key(scene.tenant), fs::Permissions::from_mode(0o640)).unwrap(),
            3,
            "fix",
            "key",
            &["other users of this machine may read or write the private key `", "mode 640", "-> run `chmod 600 "],
        ),
        (
            |scene| scene.set("ALLOW_PLAINTEXT", "true"),
            0,
            "note",
            "plain",
            &["ALLOW_PLAINTEXT", "-> remove it, unless"],
        ),
        // The tests run in the folder of `host.json`.
        (
            |scene| scene.set("DEADLINE", "30m"),
            3,
            "fix",
            "deadline",
            &["DEADLINE is 1800 s", "functionTimeout in host.json is 1800 s", "-> set DEADLINE"],
        ),
        (|scene| scene.set("DROP_CONTAINER", "nowhere"), 3, "fix", "drops", &["`nowhere`", "no such container", "->"]),
        (|scene| scene.set("STATE_CONTAINER", "nowhere"), 0, "note", "state", &["`nowhere`", "does not exist yet"]),
        (
            |scene| {
                let other = TenantId(uuid::Uuid::new_v4());
                scene.add_private_key(other, &scene.private_key(scene.tenant));
                scene.set("TENANTS", &format!("{},{other}", scene.tenant));
            },
            3,
            "fix",
            "tenants",
            &["2 tenants", "-> give each customer who holds a SAS a container of its own"],
        ),
        (
            |scene| scene.set("TENANTS", &format!("{}=elsewhere", scene.tenant)),
            3,
            "fix",
            "tenants",
            &["in `elsewhere`, which DROP_CONTAINER does not include", "set DROP_CONTAINER=*"],
        ),
        (
            |scene| scene.set("TENANTS", &format!(r#"{{"{}": {{"paused": true}}}}"#, scene.tenant)),
            0,
            "note",
            "tenants",
            &["is paused in TENANTS: its drops wait", "-> remove `paused`"],
        ),
        (|scene| scene.receiver.answer_always(Answer::status(401)), 3, "fix", "sink", &["HTTP 401", "WEBHOOK_SECRET"]),
        (
            |scene| scene.set("DELIVER_TO", scene.receiver.not_found_url().as_str()),
            3,
            "fix",
            "sink",
            &["HTTP 404", "check DELIVER_TO"],
        ),
        (
            |scene| scene.set("WEBHOOK_SECRET", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"),
            3,
            "fix",
            "sink",
            &["HTTP 401"],
        ),
        (|scene| scene.receiver.answer_always(Answer::status(503)), 1, "retry", "sink", &["HTTP 503", "-> check that"]),
        (|scene| scene.api.require_token("hunter2"), 3, "fix", "api", &["HTTP 401", "check PARTNER_TENANT_ID"]),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 404, body: "no such page".into() }),
            3,
            "fix",
            "api",
            &["HTTP 404", "check VIVA_API_URL"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 200, body: "<html>".into() }),
            3,
            "fix",
            "api",
            &["HTTP 200", "check VIVA_API_URL"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Disconnect),
            1,
            "retry",
            "api",
            &["did not answer", "-> check that it is available"],
        ),
        (
            |scene| scene.api.answer_always(Behaviour::Status { status: 503, body: String::new() }),
            1,
            "retry",
            "api",
            &["HTTP 503"],
        ),
    ];
    for (break_it, code, severity, subject, parts) in table {
        let mut scene = complete(Scene::in_a_folder().await).await;
        break_it(&mut scene);
        let ended = check(&scene).await;
        assert_found(&ended, *code, severity, subject, parts);
        // Everything else was tested too, and works.
        let others = ended.stdout.lines().filter(|line| line.starts_with("fix ") || line.starts_with("retry "));
        assert_eq!(others.count(), usize::from(*code != 0), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn customers_that_share_a_container_are_reported() {
    let mut scene = complete(Scene::in_a_folder().await).await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &scene.private_key(scene.tenant));
    let own = |tenant: TenantId| format!("{tenant}={tenant}");
    scene.set("TENANTS", &format!("{},{}", own(scene.tenant), own(other)));
    scene.set("DROP_CONTAINER", "*");
    for tenant in [scene.tenant, other] {
        scene.store.create_container(&tenant.to_string()).await.unwrap();
    }
    let ended = check(&scene).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_eq!((findings(&ended, "drops").len(), findings(&ended, "tenants").len()), (2, 0), "{}", ended.stdout);

    // Prefixes in one container are no better than the short form, because a SAS applies to the whole container.
    scene.set("TENANTS", &format!("{}=shared/a,{other}=shared/b", scene.tenant));
    scene.store.create_container("shared").await.unwrap();
    assert_found(&check(&scene).await, 3, "fix", "tenants", &["drops of 2 tenants in `shared`"]);
}

#[tokio::test]
async fn outcomes_in_the_ledger_are_counted_and_unreadable_records_are_named() {
    let scene = complete(Scene::in_a_folder().await).await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_next(1, Answer::status(400));
    assert_eq!(output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await.code, Some(3));
    let ended = check(&scene).await;
    assert_found(
        &ended,
        0,
        "note",
        "ledger",
        &["set-aside drops: 1, set-aside files: 1", "-> their records state the reason"],
    );

    let state = &scene.settings["STATE_CONTAINER"];
    let record = BlobPath::new(state, format!("drops/{}/drop.json", drop.path()));
    scene.store.write(&record, "no record".into(), WriteIf::Always).await.unwrap();
    assert_found(
        &check(&scene).await,
        3,
        "fix",
        "ledger",
        &["drop.json` is not a valid ledger record", &format!("with `vivadrop replay {}`", drop.path())],
    );
}

#[tokio::test]
async fn a_store_that_denies_access_and_one_that_does_not_answer_are_distinguished() {
    let mut scene = complete(Scene::on_azurite().await).await;
    let good = scene.settings["DropStorage"].clone();
    // The right account with a wrong key.
    scene.set("DropStorage", &good.replace(azurite::KEY, "bm90IHRoZSBrZXk="));
    let ended = check(&scene).await;
    for subject in ["drops", "state", "ledger"] {
        assert_found(&ended, 3, "fix", subject, &["denies access", "grant Storage Blob Data Owner"]);
    }
    assert_found(&ended, 3, "ok", "sink", &["was accepted"]);
    assert_found(&ended, 3, "ok", "clock", &["agree"]);

    let endpoint = azurite::shared().blob_endpoint();
    scene.set("DropStorage", &good.replace(&endpoint, "http://127.0.0.1:9/devstoreaccount1"));
    let ended = check(&scene).await;
    for subject in ["clock", "drops", "state", "ledger"] {
        assert_found(&ended, 1, "retry", subject, &["-> check that the account of DropStorage is available"]);
    }
}

#[tokio::test]
async fn the_sink_of_a_tenant_is_tested_as_well() {
    let mut scene = complete(Scene::in_a_folder().await).await;
    let own = Receiver::start(Options::default()).await.unwrap();
    let secret = own.secret().expose_secret();
    scene.secrets.add("the secret of the tenant's receiver", secret);
    let tenants = json!({scene.tenant.to_string(): {"DELIVER_TO": own.url().as_str(), "WEBHOOK_SECRET": secret}});
    scene.set("TENANTS", &tenants.to_string());
    let ended = check(&scene).await;
    assert_eq!((ended.code, findings(&ended, "sink").len()), (Some(0), 2), "{}", ended.stdout);
    assert_eq!((scene.receiver.received().checks, own.received().checks), (1, 1));

    own.answer_always(Answer::status(403));
    let of = format!("to the sink of {}", scene.tenant);
    assert_found(&check(&scene).await, 3, "fix", "sink", &[&of, "HTTP 403"]);
}

#[tokio::test]
async fn a_vault_that_denies_access_and_one_that_does_not_answer_are_distinguished() {
    let mut scene = complete(Scene::in_a_folder().await).await;
    let entra = Entra::start().await;
    let mut vault = KeyVault::start(&entra).await;
    entra.add_secrets(&scene.secrets);
    scene.settings.extend(entra.with_managed_identity());
    scene.set("PRIVATE_KEYS", vault.url().as_str());
    assert_found(&check(&scene).await, 3, "fix", "key", &["there is no `https://localhost", "onboard --tenant"]);
    vault.answer_always(vault::Behaviour::Denied("ForbiddenByRbac"));
    assert_found(&check(&scene).await, 3, "fix", "key", &["Key Vault Crypto User"]);
    vault.stop().await;
    assert_found(&check(&scene).await, 1, "retry", "key", &["did not answer", "-> check that it is available"]);
}

#[tokio::test]
async fn a_wrong_clock_is_reported_even_if_the_store_denies_access() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let yesterday = httpdate::fmt_http_date(std::time::SystemTime::now() - Duration::from_secs(86_400));
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            let head = format!("HTTP/1.1 403 Forbidden\r\nDate: {yesterday}\r\nConnection: close\r\n");
            // The client may have closed the connection.
            let _closed = stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    let mut scene = Scene::in_a_folder().await;
    let key = azurite::KEY;
    scene.set("DropStorage", &format!("AccountName=acct;AccountKey={key};BlobEndpoint=http://{address}/acct"));
    let ended = check(&scene).await;
    assert_found(&ended, 3, "fix", "clock", &["it is 24 h 0 min ahead of the store's", "-> set this machine's clock"]);
    assert_found(&ended, 3, "fix", "drops", &["denies access"]);
    server.abort();
}

#[tokio::test]
async fn a_local_set_up_whose_drops_contain_their_keys_has_nothing_to_fix() {
    let mut scene = complete(Scene::in_a_folder().await).await;
    scene.set("DELIVER_TO", "stdout:");
    scene.settings.remove("VIVA_API_URL");
    let ended = check(&scene).await;
    assert_found(&ended, 0, "skip", "api", &["drops that contain their keys do not need it"]);
    scene.set("PARTNER_TENANT_ID", "contoso.example");
    scene.set("PARTNER_APP_ID", "6f0c2b7a-1a33-4f2b-9d3c-0a8f6f2d7e10");
    scene.set("PARTNER_APP_SECRET", "secret");
    let url = scene.receiver.not_found_url();
    scene.set("VIVA_API_URL", url.as_str());
    assert_found(&check(&scene).await, 3, "fix", "api", &["HTTP 404"]);
}

#[tokio::test]
async fn no_message_is_sent_with_no_send() {
    let scene = complete(Scene::in_a_folder().await).await;
    let ended = output_of(vivadrop().args(["check", "--no-send"]).envs(&scene.settings)).await;
    assert_found(&ended, 0, "skip", "sink", &["was not sent", "--no-send"]);
    assert_eq!(scene.receiver.received().requests, 0);
}

#[tokio::test]
async fn the_functions_of_the_page_must_demand_a_key() {
    let scene = complete(Scene::in_a_folder().await).await;
    let check =
        async |app: &str| output_of(vivadrop().args(["check", "--no-send", "--app", app]).envs(&scene.settings)).await;
    // `vivadrop page` demands a key, as the Functions host does.
    let mut page = vivadrop();
    page.args(["page", "--no-open"]).envs(&scene.settings).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut page = page.spawn().unwrap();
    let address = BufReader::new(page.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let ended = check(address.split("/api").next().unwrap()).await;
    assert_found(&ended, 0, "ok", "page", &["without a key: it serves the page"]);
    assert_found(&ended, 0, "ok", "view", &["without a key: it demands one"]);
    assert_found(&ended, 0, "ok", "manage", &["without a key: it demands one"]);
    page.kill().await.unwrap();

    // `vivadrop serve` leaves that to the host.
    let host = scene.host().await;
    let ended = check(host.url("").trim_end_matches('/')).await;
    assert_found(&ended, 3, "fix", "view", &["answered 200 instead of 401", "-> set authLevel to function in view/"]);
    assert_found(&ended, 3, "fix", "manage", &["answered 415 instead of 401"]);

    let ended = output_of(vivadrop().args(["check", "--no-send"]).envs(&scene.settings)).await;
    assert_found(&ended, 0, "skip", "page", &["--app"]);
    assert_found(&ended, 0, "ok", "view", &["read view/function.json: authLevel is function"]);
}
