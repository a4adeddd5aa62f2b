//! Runs the test vectors through the real binary: as drops that `decode` prints, and as drops that are delivered.

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

/// How many cases run at once.
const CONCURRENT_CASES: usize = 4;

/// Runs `test` for all cases that are `selected`; fails with the errors of all of them.
async fn for_each_case<F: Future<Output = Result<(), String>>>(selected: fn(&Case) -> bool, test: impl Fn(Case) -> F) {
    let cases: Vec<Case> = cases().into_iter().filter(selected).collect();
    assert!(!cases.is_empty(), "no case is selected");
    let tests = cases.into_iter().map(|case| {
        let heading = format!("{} ({})", case.name, case.about.why);
        let test = test(case);
        async move { test.await.err().map(|error| format!("{heading}: {error}")) }
    });
    let mut errors: Vec<String> =
        stream::iter(tests).buffer_unordered(CONCURRENT_CASES).filter_map(async |error| error).collect().await;
    errors.sort();
    assert!(errors.is_empty(), "{} cases failed:\n{}", errors.len(), errors.join("\n"));
}

#[tokio::test]
async fn decode_prints_the_rows_of_each_case_or_fails_as_expected() {
    for_each_case(|_| true, decode).await;
}

/// Decodes a case with the binary, and compares rows or exit code.
async fn decode(case: Case) -> Result<(), String> {
    let before = contents(&case.drop());
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key()).args(&case.about.flags);
    if let Some(answer) = case.decryption_keys() {
        command.arg("--decryption-keys").arg(answer);
    }
    let ended = output_of(&mut command).await;
    let stderr = ended.stderr.trim();
    if let Some(shown) = case.secrets().shown_in(stderr) {
        return Err(format!("shows {shown} on stderr"));
    }
    if ended.code != Some(case.about.exit) {
        return Err(format!("exit code {:?}, expected {}: {stderr}", ended.code, case.about.exit));
    }
    if !ended.stdout.is_empty() && !ended.stdout.ends_with('\n') {
        return Err("the last row has no line feed".into());
    }
    match case.about.exit {
        0 => differences(case.expected().lines(), ended.stdout.lines()).map_or(Ok(()), Err)?,
        _ if stderr.is_empty() => return Err("fails without a message".into()),
        // Rows before the failure may have been printed. They must be rows too.
        _ if !ended.stdout.lines().all(|row| matches!(Json::parse(row), Ok(Json::Object(_)))) => {
            return Err("prints a line that is not a row".into());
        }
        _ => {}
    }
    if contents(&case.drop()) == before { Ok(()) } else { Err("changes the drop".into()) }
}

#[tokio::test]
async fn each_valid_case_is_delivered_with_the_same_rows() {
    // `one-file` is about the flag `--file`, which deliveries do not have.
    for_each_case(|case| case.about.exit == 0 && case.name != "one-file", deliver_valid).await;
}

/// Delivers a case that must be completed.
async fn deliver_valid(case: Case) -> Result<(), String> {
    let (answer, received, path) = deliver(&case).await;
    if answer.status != 200 {
        return Err(format!("the response to the host is {}: {}", answer.status, answer.log));
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
        other => Err(format!("expected one drop.completed after {rows} rows, found {other:?}")),
    }
}

#[tokio::test]
async fn each_invalid_case_is_set_aside_with_its_reason() {
    for_each_case(|case| case.about.exit != 0, deliver_invalid).await;
}

/// The expected outcome of the delivery of an invalid case.
enum Expected {
    /// `drop.failed` with this reason.
    SetAside(&'static str),
    /// The drop stays open, because the missing rows may still arrive.
    Open,
    /// There is no drop, because there is no metadata.
    NoDrop,
}

impl Expected {
    /// The outcome that the reason of the case implies.
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
            other => panic!("`{}` has an unknown reason: {other}", case.name),
        }
    }
}

/// Delivers a case that must end as [`Expected`] says.
async fn deliver_invalid(case: Case) -> Result<(), String> {
    let (answer, received, path) = deliver(&case).await;
    if answer.status != 200 {
        return Err(format!("the response to the host is {}: {}", answer.status, answer.log));
    }
    let drop = received.drops.get(&path);
    let failed: Vec<_> = drop.into_iter().flat_map(|drop| &drop.failed).collect();
    if drop.is_some_and(|drop| !drop.completed.is_empty()) {
        return Err("the drop was completed".into());
    }
    match (Expected::of(&case), &failed[..]) {
        (Expected::NoDrop, []) if received.requests == 0 => Ok(()),
        (Expected::Open, []) if drop.is_some_and(|drop| drop.row_count() > 0) => Ok(()),
        (Expected::SetAside(reason), [failed]) if failed.reason == reason => {
            let delivered = drop.map_or(0, |drop| drop.row_count());
            if failed.rows_delivered != delivered {
                return Err(format!(
                    "`rowsDelivered` is {}, but {delivered} rows were delivered",
                    failed.rows_delivered
                ));
            }
            case.secrets().shown_in(&failed.message).map_or(Ok(()), |shown| Err(format!("the message shows {shown}")))
        }
        (_, failed) => Err(format!("ended with {failed:?}")),
    }
}

/// Uploads the case as a drop of its tenant, and sends the event of its job metadata, or of its first file if it has no
/// job metadata.
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
        // The saved response as it is: some are not valid JSON.
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
        assert_eq!(case.secrets().shown_in(&line.to_string()), None, "{}: the log shows a secret", case.name);
    }
    (answer, scene.receiver.received(), path.to_string())
}
