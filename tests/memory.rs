//! After a run, no key is left in the memory of the process, in the log or in the ledger. Whatever a file contains, the
//! memory of the process stays small.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use futures::future::join_all;
use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey};
use serde_json::{Value, json};
use testkit::receiver::Answer;
use vivadrop::{
    drop::DropPath,
    keys::{
        Keys,
        details::wrapped_keys,
        pem::PemFile,
        unwrap::{KeyWrap, unwrap_keys},
    },
    simulate::SimulateOptions,
    stage::decrypt::Cipher,
};

use crate::support::{
    entra::Entra,
    host::Host,
    host_payloads::blob_trigger,
    process_memory::{Needles, core_limit, found_in, no_new_privileges},
    scene::{METADATA, Scene, SimulatedDrop, assert_complete, has_ended},
    vault::KeyVault,
    vectors,
};

/// The keys of a simulated drop.
async fn keys_of(scene: &Scene, drop: &SimulatedDrop) -> Keys {
    let answer = serde_json::from_slice(&fs::read(&drop.simulated.decryption_keys).unwrap()).unwrap();
    let private_key = PemFile::new(&drop.simulated.private_key);
    unwrap_keys(&private_key, scene.tenant, KeyWrap::Auto, &wrapped_keys(&answer).unwrap()).await.unwrap()
}

/// Delivers drops, and searches the memory of the process during and after each run, and everything that it wrote.
async fn assert_keys_are_wiped(mut scene: Scene) {
    scene.set("RUST_LOG", "trace");
    scene.set("BATCH_ROWS", "50");
    scene.set("IN_FLIGHT", "1");
    let host = scene.host().await;
    assert_eq!(core_limit(host.process()), ["0", "0"]);
    assert!(no_new_privileges(host.process()), "the process cannot gain privileges");
    let mut needles = Needles::default();
    needles.add_private_key(&fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap());
    for cipher in Cipher::ALL {
        let drop = scene.drop_like(SimulateOptions {
            users: 2_000,
            weeks: 1,
            file_cipher: cipher,
            column_cipher: cipher,
            ..SimulateOptions::default()
        });
        let drop = drop.await;
        let rows = scene.rows_of(&drop).await;
        let keys = keys_of(&scene, &drop).await;
        let mut key_in_use = Needles::default();
        key_in_use.add_key("the File key", &keys.file.as_ref().unwrap().key);
        needles.add_key("the File key", &keys.file.as_ref().unwrap().key);
        needles.add_key("the Column key", &keys.column.as_ref().unwrap().key);
        scene.upload(&drop).await;

        scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(50)));
        let (client, event) = (host.client(), scene.event(&drop, METADATA));
        let posted = tokio::spawn(async move { client.trigger(&event).await });
        scene.wait_for(|received| received.drops.contains_key(&drop.path())).await;
        // Checks the search itself: it must find a key that is in use.
        assert_ne!(found_in(host.process(), &key_in_use), [""; 0], "the search does not find a key that is in use");

        scene.receiver.answer_always(Answer::Accept);
        let answers = posted.await.unwrap();
        assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
        assert_complete(&scene.receiver.received(), &drop, &rows);
        let found = found_in(host.process(), &needles);
        assert!(found.is_empty(), "{cipher}: {} copies of keys:\n{}", found.len(), found.join("\n"));
    }
    for (name, bytes) in scene.state() {
        assert_eq!(needles.found_in(&bytes), [""; 0], "the ledger's `{name}`");
    }
    let log: String = host.stop().iter().map(ToString::to_string).collect();
    assert!(log.contains("TRACE"), "the log has level TRACE");
    assert_eq!(needles.found_in(log.as_bytes()), [""; 0], "the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_of_a_pem_file_or_drop_is_left_in_memory_after_the_run() {
    assert_keys_are_wiped(Scene::in_a_folder().await).await;
}

/// The private key in the folder does not fit the wrapped keys. The message about that must contain neither.
#[tokio::test]
async fn the_message_about_a_wrong_key_contains_no_key() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.add_private_key(scene.tenant, &vectors::case("refuse-wrong-private-key").private_key());
    let wrapped: Value = serde_json::from_slice(&fs::read(&drop.simulated.decryption_keys).unwrap()).unwrap();
    for key in wrapped["DecryptionKeys"].as_array().unwrap() {
        scene.secrets.add("a wrapped key", key["Value"].as_str().unwrap());
    }
    let host = scene.host().await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert!(answer.log.contains("wrong-key"), "{}", answer.log);
    scene.secrets.check(&answer.log);
    let received = scene.receiver.received();
    let failed = &received.drops[&drop.path()].failed[0];
    assert_eq!(failed.reason, "wrong-key");
    scene.secrets.check(&failed.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_that_a_vault_unwrapped_is_left_in_memory_after_the_run() {
    let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
    let vault = KeyVault::start(&entra).await;
    let pem = fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap();
    vault.import(scene.tenant, RsaPrivateKey::from_pkcs8_pem(&pem).unwrap());
    scene.set("PRIVATE_KEYS", vault.url().as_str());
    scene.settings.extend(entra.with_managed_identity());
    entra.add_secrets(&scene.secrets);
    assert_keys_are_wiped(scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_directory_is_left_in_memory_after_the_run() {
    let mut scene = Scene::in_a_folder().await;
    for (name, value) in [("DIRECTORY", "join"), ("ALLOW_PLAINTEXT", "true"), ("BATCH_ROWS", "50"), ("IN_FLIGHT", "1")]
    {
        scene.set(name, value);
    }
    let drop = scene.drop(2_000, 1).await;
    // A person whom no row names, so that no message contains the department.
    let department = format!("department {}", uuid::Uuid::new_v4());
    let mut needles = Needles::default();
    needles.add_text("the department", &department);
    let person = json!({"id": uuid::Uuid::new_v4(), "mail": "a@contoso.example", "department": department});
    let metadata = json!({
        "TenantId": scene.tenant, "TableName": "BasicDataSet_v0.User_v1", "NumberOfRowsExtracted": 1,
        "CopyActivityId": drop.simulated.copy_activity_id,
    });
    let directory = DropPath::new(&drop.path.container, drop.path.folder.replace("VivaInsights", "AADUser"));
    scene.write(&directory, "part-0.json", format!("{person}\n")).await;
    scene.write(&directory, METADATA, metadata.to_string()).await;
    scene.upload(&drop).await;
    let host = scene.host().await;
    let answer = host.post(&blob_trigger(&scene.address_of(&directory.blob(METADATA)), 1)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    assert_eq!(found_in(host.process(), &needles), [""; 0], "after the directory was counted");

    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(50)));
    let (client, event) = (host.client(), scene.event(&drop, METADATA));
    let posted = tokio::spawn(async move { client.trigger(&event).await });
    scene.wait_for(|received| received.drops.contains_key(&drop.path())).await;
    assert_ne!(found_in(host.process(), &needles), [""; 0], "the search does not find the table that is in use");
    scene.receiver.answer_always(Answer::Accept);
    let answers = posted.await.unwrap();
    assert!(answers.last().unwrap().log.contains("completed"), "{answers:?}");
    assert_eq!(found_in(host.process(), &needles), [""; 0], "after the run");
}

/// Writes a drop with this many rows of one person, each with `padding` more bytes, and its directory, in which the
/// department of the person has `department` bytes. Returns the drop and the path of the directory.
async fn drop_of_one_person(
    scene: &Scene,
    rows: usize,
    padding: usize,
    department: usize,
) -> (SimulatedDrop, DropPath) {
    let (drop, id) = (scene.drop(1, 1).await, uuid::Uuid::new_v4());
    let metadata = |table: &str, rows: usize| {
        let copy_activity_id = drop.simulated.copy_activity_id;
        json!({
            "TenantId": scene.tenant, "TableName": table, "NumberOfRowsExtracted": rows,
            "CopyActivityId": copy_activity_id,
        })
    };
    let directory = DropPath::new(&drop.path.container, drop.path.folder.replace("VivaInsights", "AADUser"));
    let person = json!({"id": id, "department": "d".repeat(department)});
    scene.write(&directory, "part-0.json", format!("{person}\n")).await;
    scene.write(&directory, METADATA, metadata("BasicDataSet_v0.User_v1", 1).to_string()).await;
    let row = format!("{{\"ObjectId\":\"{id}\",\"padding\":\"{}\"}}\n", "x".repeat(padding));
    scene.write(&drop.path, "part-0.json", row.repeat(rows)).await;
    scene.write(&drop.path, METADATA, metadata("VivaInsightsDataset_v1", rows).to_string()).await;
    (drop, directory)
}

/// The peak memory of the process, in MiB, after drops were joined that [`drop_of_one_person`] has written.
async fn peak_memory_of_joining(drops: usize, rows: usize, padding: usize, department: usize) -> u64 {
    let mut scene = Scene::in_a_folder().await;
    for (name, value) in [("DIRECTORY", "join"), ("ALLOW_PLAINTEXT", "true"), ("DECODERS", "2")] {
        scene.set(name, value);
    }
    let mut written = Vec::new();
    for _ in 0..drops {
        written.push(drop_of_one_person(&scene, rows, padding, department).await);
    }
    let host = scene.host().await;
    for (_, directory) in &written {
        let answer = host.post(&blob_trigger(&scene.address_of(&directory.blob(METADATA)), 1)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
    }
    // With a slower receiver, as much as possible waits for it.
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(20)));
    let drops: Vec<_> = written.into_iter().map(|(drop, _)| drop).collect();
    let outcomes = outcomes_of(&scene, &host, &drops).await;
    assert!(outcomes.iter().all(|outcome| outcome.contains("completed with 0 bad rows")), "{outcomes:?}");
    assert_eq!(scene.receiver.received().row_count() as usize, rows * drops.len());
    host.peak_memory() >> 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_repeat_a_person_with_a_long_entry_do_not_fill_the_memory() {
    let peak = peak_memory_of_joining(1, 20_000, 0, 10 << 10).await;
    assert!(peak < 64, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_rows_of_a_person_with_an_entry_just_below_the_limit_do_not_fill_the_memory() {
    let peak = peak_memory_of_joining(4, 100, 310 << 10, (1 << 20) - 200).await;
    // 128 MiB, four tables of 2 MiB, and 12 MiB that an unoptimized binary takes more than the package's.
    assert!(peak < 148, "{peak} MiB");
}

/// The peak memory of the process, in MiB, after four files that repeat `lines` were processed at once, and the
/// outcomes.
async fn peak_memory_with_four_files_of(lines: &str, repetitions: usize, bad_rows_allowed: &str) -> (u64, Vec<String>) {
    let mut scene = Scene::in_a_folder().await;
    for (name, value) in [("FILE_LAYOUT", "plain"), ("ALLOW_PLAINTEXT", "true"), ("DECODERS", "2")] {
        scene.set(name, value);
    }
    scene.set("BAD_ROWS_ALLOWED", bad_rows_allowed);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // The layout is detected from the first bytes.
    gzip.write_all(b"{}\n").unwrap();
    (0..repetitions).for_each(|_| gzip.write_all(lines.as_bytes()).unwrap());
    let gzip = gzip.finish().unwrap();
    let mut drops = Vec::new();
    for _ in 0..4 {
        let drop = scene.drop(1, 1).await;
        let metadata = fs::read_to_string(drop.simulated.drop.join(METADATA)).unwrap();
        let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
        metadata["NumberOfRowsExtracted"] = Value::Null;
        scene.write(&drop.path, "part-0.json.gz", gzip.clone()).await;
        scene.write(&drop.path, METADATA, metadata.to_string()).await;
        drops.push(drop);
    }
    // With a slower receiver, as much as possible waits for it.
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(20)));
    let host = scene.host().await;
    let outcomes = outcomes_of(&scene, &host, &drops).await;
    (host.peak_memory() >> 10, outcomes)
}

/// Posts the events of all drops at once. Returns how each drop ended.
async fn outcomes_of(scene: &Scene, host: &Host, drops: &[SimulatedDrop]) -> Vec<String> {
    let events: Vec<_> = drops.iter().map(|drop| scene.event(drop, METADATA)).collect();
    let answers = join_all(events.iter().map(|event| host.post(event))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    // Some of them wait for a turn.
    let received = scene.wait_for(|received| drops.iter().all(|drop| has_ended(received, drop))).await;
    let outcome = |drop: &SimulatedDrop| {
        let drop = &received.drops[&drop.path()];
        match &drop.failed[..] {
            [failed] => format!("set aside: {}", failed.reason),
            _ => format!("completed with {} bad rows", drop.completed[0].bad_rows),
        }
    };
    drops.iter().map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_just_below_the_limit_do_not_fill_the_memory() {
    let row = format!("{{\"a\":\"{}\"}}\n", "x".repeat((1 << 20) - 8));
    let (peak, outcomes) = peak_memory_with_four_files_of(&row, 100, "0").await;
    assert!(outcomes.iter().all(|outcome| outcome.contains("completed with 0 bad rows")), "{outcomes:?}");
    assert!(peak < 112, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_garbage_lines_do_not_fill_the_memory() {
    let (peak, outcomes) = peak_memory_with_four_files_of(&"x\n".repeat(100_000), 50, "0").await;
    assert!(outcomes.iter().all(|outcome| outcome.contains("set aside: bad-row")), "{outcomes:?}");
    assert!(peak < 64, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_lines_that_are_allowed_do_not_fill_the_memory() {
    let (peak, outcomes) = peak_memory_with_four_files_of(&"x\n".repeat(100_000), 5, "1000000").await;
    assert!(outcomes.iter().all(|outcome| outcome.contains("500000 bad rows")), "{outcomes:?}");
    assert!(peak < 96, "{peak} MiB");
}

/// JSON of many small values: 80 times its size if it is parsed into a `serde_json::Value`.
fn many_small_values(bytes: usize) -> String {
    format!("[{}{{\"\":0}}]", "{\"\":0},".repeat(bytes / 9))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_many_small_values_does_not_fill_the_memory() {
    let scene = Scene::in_a_folder().await;
    let values = many_small_values(1_000_000);
    let mut drops = Vec::new();
    for name in ["x", "Errors", "DecryptionKeyDetails", "TableName"] {
        let drop = scene.drop(10, 1).await;
        let metadata = fs::read_to_string(drop.simulated.drop.join(METADATA)).unwrap();
        let metadata = metadata.trim_start().replacen('{', &format!("{{\"{name}\":{values},"), 1);
        scene.upload(&drop).await;
        scene.write(&drop.path, METADATA, metadata).await;
        drops.push(drop);
    }
    let details = scene.drop(10, 1).await;
    scene.upload(&details).await;
    let name = "metadata/MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json";
    scene.write(&details.path, name, format!("{{\"DecryptionKeys\":{}}}", many_small_values(60_000))).await;
    drops.push(details);

    // With a slower receiver, as much as possible waits for it.
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(20)));
    let host = scene.host().await;
    let outcomes = outcomes_of(&scene, &host, &drops).await;
    let peak = host.peak_memory() >> 10;
    assert!(peak < 64, "{peak} MiB");
    for (outcome, part) in
        outcomes.iter().zip(["completed", "set aside: errors", "completed", "set aside: metadata", "completed"])
    {
        assert!(outcome.contains(part), "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_many_small_values_do_not_fill_the_memory() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let list = many_small_values(1_000_000);
    let string = serde_json::to_string(&many_small_values(200_000)).unwrap();
    let event = "{\"eventType\":\"\",\"data\":[";
    let payloads = [
        list.clone(),
        format!("{{\"Data\":{{\"a\":{list}}}}}"),
        format!("{{\"Data\":{{\"req\":{{\"Body\":{string}}}}}}}"),
        format!("{{\"Data\":{{\"a\":{string},\"b\":{string},\"c\":{string}}}}}"),
        format!("[{event}]}},{event}{}]}}]", list.trim_matches(['[', ']'])),
        "[".repeat(1_000_000),
        format!("[{}0]", "0,".repeat(500_000)),
    ];
    for payload in payloads {
        let posts = (0..4).map(|_| host.post_bytes(payload.clone().into_bytes()));
        for answer in join_all(posts).await {
            assert!(matches!(answer.status, 200 | 400 | 413), "{answer:?}");
        }
    }
    let peak = host.peak_memory() >> 10;
    assert!(peak < 96, "{peak} MiB");
}
