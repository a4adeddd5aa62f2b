//! The test vectors through the built binary: what `decode` prints, and what becomes of each of them as a delivered drop.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

use std::{fs, future::Future};

use futures::{StreamExt, stream};
use testkit::{receiver::Received, viva_api::Behaviour};
use vivadrop::drop::{DropPath, metadata::JobMetadata};

use support::{
    command::{output_of, vivadrop},
    host::Answer,
    host_payloads,
    json::{Json, differences},
    scene::Scene,
    vectors::{Case, cases, contents},
};

/// How many cases are tried at once.
const AT_ONCE: usize = 4;

/// Tries all cases that `is_meant`; fails with everything that went wrong.
async fn each<F: Future<Output = Result<(), String>>>(is_meant: fn(&Case) -> bool, attempt: impl Fn(Case) -> F) {
    let cases: Vec<Case> = cases().into_iter().filter(is_meant).collect();
    assert!(!cases.is_empty(), "there is no such case");
    let attempts = cases.into_iter().map(|case| {
        let heading = format!("{} ({})", case.name, case.about.why);
        let attempt = attempt(case);
        async move { attempt.await.err().map(|wrong| format!("{heading}: {wrong}")) }
    });
    let mut wrong: Vec<String> =
        stream::iter(attempts).buffer_unordered(AT_ONCE).filter_map(async |w| w).collect().await;
    wrong.sort();
    assert!(wrong.is_empty(), "{} of the cases failed:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_case_is_decoded_or_refused_as_it_says() {
    each(|_| true, decode).await;
}

async fn decode(case: Case) -> Result<(), String> {
    let before = contents(&case.drop());
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key()).args(&case.about.flags);
    if let Some(answer) = case.decryption_keys() {
        command.arg("--decryption-keys").arg(answer);
    }
    let ended = output_of(&mut command).await;
    let said = ended.stderr.trim();
    if let Some(shown) = case.secrets().shown_in(said) {
        return Err(format!("shows {shown} on stderr"));
    }
    if ended.code != Some(case.about.exit) {
        return Err(format!("exit code {:?}, expected {}: {said}", ended.code, case.about.exit));
    }
    if !ended.stdout.is_empty() && !ended.stdout.ends_with('\n') {
        return Err("the last row has no line end".into());
    }
    match case.about.exit {
        0 => differences(case.expected().lines(), ended.stdout.lines()).map_or(Ok(()), Err)?,
        _ if said.is_empty() => return Err("refuses without a word".into()),
        // A refusal may come after some rows, which are rows like any others.
        _ if !ended.stdout.lines().all(|row| matches!(Json::parse(row), Ok(Json::Object(_)))) => {
            return Err("prints what is no row".into());
        }
        _ => {}
    }
    if contents(&case.drop()) == before { Ok(()) } else { Err("leaves something behind in the drop".into()) }
}

#[tokio::test]
async fn every_good_case_is_delivered_as_it_is_decoded() {
    // `--file` has nothing to match in a delivery.
    each(|case| case.about.exit == 0 && case.name != "one-file", deliver_good).await;
}

async fn deliver_good(case: Case) -> Result<(), String> {
    let (answer, received, path) = deliver(&case).await;
    if answer.status != 200 {
        return Err(format!("the host is answered {}: {}", answer.status, answer.log));
    }
    let expected = case.expected();
    differences(expected.lines(), received.rows(&path)).map_or(Ok(()), Err)?;
    let drop = &received.drops[&path];
    if !drop.failed.is_empty() {
        return Err(format!("failed: {:?}", drop.failed));
    }
    let rows = expected.lines().count() as u64;
    match &drop.completed[..] {
        [completed] if (completed.rows, completed.rows_before) == (rows, rows) => Ok(()),
        other => Err(format!("expected one drop.completed behind {rows} rows, found {other:?}")),
    }
}

#[tokio::test]
async fn every_refused_case_is_set_aside_for_its_reason() {
    each(|case| case.about.exit != 0, deliver_refused).await;
}

/// What becomes of a refused case where it is delivered.
enum Fate {
    /// `drop.failed` with this reason.
    SetAside(&'static str),
    /// Rows are missing: they may still come.
    Open,
    /// There is no drop.
    NoDrop,
}

impl Fate {
    fn of(case: &Case) -> Self {
        match case.about.reason.as_deref().unwrap() {
            "no-metadata" => Self::NoDrop,
            "row-count" if case.name == "refuse-fewer-rows" => Self::Open,
            "row-count" => Self::SetAside("row-count"),
            "errors" => Self::SetAside("errors"),
            "wrong-key" | "undecipherable" => Self::SetAside("wrong-key"),
            "plaintext" => Self::SetAside("plaintext"),
            "damaged" => Self::SetAside("damaged"),
            "bad-rows" => Self::SetAside("bad-row"),
            "row-too-long" => Self::SetAside("row-too-long"),
            other => panic!("`{}` is refused for an unknown reason: {other}", case.name),
        }
    }
}

async fn deliver_refused(case: Case) -> Result<(), String> {
    let (answer, received, path) = deliver(&case).await;
    if answer.status != 200 {
        return Err(format!("the host is answered {}: {}", answer.status, answer.log));
    }
    let drop = received.drops.get(&path);
    let failed: Vec<_> = drop.into_iter().flat_map(|drop| &drop.failed).collect();
    if drop.is_some_and(|drop| !drop.completed.is_empty()) {
        return Err("is completed".into());
    }
    match (Fate::of(&case), &failed[..]) {
        (Fate::NoDrop, []) if received.requests == 0 => Ok(()),
        (Fate::Open, []) if drop.is_some_and(|drop| drop.row_count() > 0) => Ok(()),
        (Fate::SetAside(reason), [failed]) if failed.reason == reason => {
            let delivered = drop.map_or(0, |drop| drop.row_count());
            if failed.rows_delivered != delivered {
                return Err(format!("says that {} rows were delivered, and {delivered} were", failed.rows_delivered));
            }
            case.secrets().shown_in(&failed.message).map_or(Ok(()), |shown| Err(format!("shows {shown}")))
        }
        (_, failed) => Err(format!("ended with {failed:?}")),
    }
}

/// Lays the case where its tenant may drop, and gives the host the event of its job metadata, or of its first file where
/// there is none.
async fn deliver(case: &Case) -> (Answer, Received, String) {
    let mut scene = Scene::in_a_folder().await;
    let blobs = contents(&case.drop());
    let is_metadata =
        |name: &&String| name.starts_with("metadata/JobMetadata") && !name.contains("/_") && !name.contains("/.");
    let metadata = blobs.keys().find(is_metadata);
    if let Some(tenant) = metadata.and_then(|name| JobMetadata::parse(&blobs[name]).ok()?.tenant_id) {
        scene.tenant = tenant;
        scene.set("TENANTS", &tenant.to_string());
    }
    for setting in case.about.flags.chunks(2) {
        scene.set(&setting[0].trim_start_matches("--").replace('-', "_").to_uppercase(), &setting[1]);
    }
    scene.add_private_key(scene.tenant, &case.private_key());
    if let Some(answer) = case.decryption_keys() {
        // As it was saved: some answers are not even JSON.
        scene.api.answer_always(Behaviour::Status { status: 200, body: fs::read_to_string(answer).unwrap() });
    }
    let path = DropPath::new("datasets", format!("run/VivaInsights/{}", scene.tenant));
    for (name, bytes) in &blobs {
        scene.write(&path, name, bytes.clone()).await;
    }

    let host = scene.host().await;
    let first = metadata.or(blobs.keys().next()).unwrap();
    let url = scene.address_of(&path.blob(first));
    let answer = host.post(&host_payloads::blob_trigger(&url, 1)).await;
    for line in host.stop() {
        assert_eq!(case.secrets().shown_in(&line.to_string()), None, "{} shows it in its log", case.name);
    }
    (answer, scene.receiver.received(), path.to_string())
}
