//! `vivadrop replay` and `vivadrop sweep`: drops that are processed again.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use testkit::receiver::Answer;

use crate::support::{
    azurite::Azurite,
    command::{CommandOutput, output_of, vivadrop},
    scene::{METADATA, Scene, assert_complete, has_ended},
};

/// Runs a command with the settings of the scene; its output must contain no secret.
async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    scene.secrets.check(&ended.stdout);
    ended
}

#[tokio::test]
async fn a_completed_drop_is_not_sent_again_until_it_is_replayed() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(40, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    for expected in ["completed `", "already completed `"] {
        let delivered = run(&scene, &["deliver", &drop.path()]).await;
        assert_eq!(delivered.code, Some(0));
        assert!(delivered.stderr.starts_with(expected), "{}", delivered.stderr);
        assert_complete(&scene.receiver.received(), &drop, &rows);
    }
    let before = scene.receiver.received();
    assert_eq!((before.accepted, before.duplicates), (3, 0));

    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    let replayed = scene.receiver.received();
    // The rows have the same ids. The ending is a new one.
    assert_eq!((replayed.accepted, replayed.duplicates), (4, 2));

    assert_eq!(run(&scene, &["replay", "--new-ids", &drop.path()]).await.code, Some(0));
    assert_eq!(scene.receiver.received().accepted, 7, "new ids");
    // The drop keeps the new ids.
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    assert_eq!((scene.receiver.received().accepted, scene.receiver.received().duplicates), (8, 4));
}

#[tokio::test]
async fn a_replay_has_the_same_ids_even_if_the_batch_size_has_changed() {
    let mut scene = Scene::in_a_folder().await;
    let drop = scene.drop(40, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    let taken_before = scene.receiver.received().accepted;
    scene.set("BATCH_ROWS", "7");
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    assert_eq!(scene.receiver.received().accepted, taken_before + 1, "the new ending");
    assert_eq!(run(&scene, &["replay", "--new-ids", &drop.path()]).await.code, Some(0));
    assert_eq!(
        scene.receiver.received().accepted,
        taken_before + 1 + 6 + 1,
        "six batches of at most seven rows, and the ending"
    );
}

#[tokio::test]
async fn a_drop_that_was_set_aside_is_not_processed_until_it_is_replayed() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(40, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_next(1, Answer::status(400));
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(3));
    let failed = scene.receiver.received();
    assert_eq!(failed.drops[&drop.path()].failed[0].reason, "refused");

    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(3));
    assert_eq!(run(&scene, &["sweep"]).await.code, Some(0));
    assert_eq!(scene.receiver.received().requests, failed.requests, "nothing was sent");

    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    let received = scene.receiver.received();
    assert_eq!(received.rows(&drop.path()).len(), rows.len());
    assert_eq!(received.drops[&drop.path()].completed.len(), 1);
}

#[tokio::test]
async fn a_sweep_processes_every_open_drop_and_prints_the_outcomes() {
    let scene = Scene::on_azurite().await;
    let (whole, open) = (scene.drop(20, 1).await, scene.drop(30, 2).await);
    let rows = scene.rows_of(&whole).await;
    scene.upload(&whole).await;
    scene.put(&open, METADATA).await;
    scene.put(&open, "part-0.json.gz").await;

    let first = run(&scene, &["sweep"]).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("2 drops: 1 completed, 1 open"), "{}", first.stderr);
    assert_complete(&scene.receiver.received(), &whole, &rows);
    assert!(!has_ended(&scene.receiver.received(), &open));

    scene.put(&open, "part-1.json.gz").await;
    let second = run(&scene, &["sweep"]).await;
    assert!(second.stderr.contains("1 drops: 1 completed, 0 open"), "{}", second.stderr);
    assert!(has_ended(&scene.receiver.received(), &open));
    assert_eq!(scene.receiver.received().duplicates, 0, "acknowledged messages are not sent again");
}

#[tokio::test]
async fn the_newest_drop_is_not_delivered_again_after_its_ledger_records_are_gone() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(20, 1).await;
    scene.upload(&drop).await;
    let store = PathBuf::from(scene.settings["DropStorage"].strip_prefix("file://").unwrap());
    for name in drop.names() {
        let file = File::options().write(true).open(store.join(drop.path()).join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    assert_eq!(run(&scene, &["sweep"]).await.code, Some(0));
    let received = scene.receiver.received();
    assert!(has_ended(&received, &drop));

    fs::remove_dir_all(store.join("vivadrop-state/drops")).unwrap();
    let again = run(&scene, &["sweep"]).await;
    assert!(again.stderr.contains("swept 0 drops"), "{}", again.stderr);
    assert_eq!(scene.receiver.received().requests, received.requests);
}

#[tokio::test]
async fn a_sweep_delivers_a_drop_after_an_outage_of_the_receiver() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("DELIVERY_PATIENCE", "1s");
    let drop = scene.drop(20, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.stop().await;
    let ended = run(&scene, &["sweep"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    scene.receiver.restart().await.unwrap();
    assert_eq!(run(&scene, &["sweep"]).await.code, Some(0));
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_replay_repairs_a_ledger_record_that_cannot_be_parsed() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(20, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    let folder = scene.settings["DropStorage"].strip_prefix("file://").unwrap();
    let state = scene.state();
    let record = state.keys().find(|name| name.ends_with("/drop.json")).unwrap();
    fs::write(format!("{folder}/vivadrop-state/{record}"), "not a record").unwrap();
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("drop.json"), "{}", ended.stderr);
    assert!(ended.stderr.contains("with `vivadrop replay "), "{}", ended.stderr);
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    assert_eq!(scene.receiver.received().rows(&drop.path()).len(), rows.len());
}

#[tokio::test]
async fn a_replay_of_an_unreadable_record_delivers_every_row_however_often_the_drop_was_replayed_before() {
    for replays in 1..=2 {
        let scene = Scene::in_a_folder().await;
        let drop = scene.drop(20, 1).await;
        let rows = scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
        for _ in 0..replays {
            assert_eq!(run(&scene, &["replay", "--new-ids", &drop.path()]).await.code, Some(0));
        }
        let before = scene.receiver.received();
        let record = scene.state().into_keys().find(|name| name.ends_with("/drop.json")).unwrap();
        fs::write(scene.state_folder().join(record), "not a record").unwrap();

        let replayed = run(&scene, &["replay", &drop.path()]).await;
        assert_eq!(replayed.code, Some(0), "{replays}: {}", replayed.stderr);
        let received = scene.receiver.received();
        assert_eq!((received.accepted, received.duplicates), (before.accepted + 1, 1), "{replays}: the same ids");
        let last = received.drops[&drop.path()].completed.last().unwrap();
        assert_eq!((last.rows, last.rows_before), (rows.len() as u64, rows.len() as u64));
        let sequences: Vec<_> = received.log.iter().filter_map(|delivery| delivery.sequence).collect();
        assert!(sequences.len() == replays + 2 && sequences.is_sorted_by(|a, b| a < b), "{replays}: {sequences:?}");
    }
}

/// Names that only a folder can have affect only themselves: a sweep logs a warning for each and delivers the drops.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_that_cannot_be_a_blobs_stops_neither_a_sweep_nor_the_drop_around_it() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(40, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let store = PathBuf::from(scene.settings["DropStorage"].trim_start_matches("file://"));
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "not ours").unwrap();
    let folder = store.join(drop.path());
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"part-\xFF")), "rows").unwrap();
    symlink(outside.path(), folder.join("linked")).unwrap();
    fs::create_dir_all(store.join("datasets").join("deep/".repeat(300))).unwrap();

    let swept = run(&scene, &["sweep"]).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert_complete(&scene.receiver.received(), &drop, &rows);
    for why in ["the name is not UTF-8: rename it", "leads out of the folder", "at most 254 segments"] {
        assert!(swept.stderr.contains(why), "{why}: {}", swept.stderr);
    }
}

#[tokio::test]
async fn a_storage_folder_that_does_not_exist_is_reported_and_not_created() {
    let mut scene = Scene::in_a_folder().await;
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    scene.set("DropStorage", &format!("file://{}", missing.display()));
    for arguments in [&["sweep"][..], &["status"], &["deliver", "datasets/run"], &["replay", "datasets/run"]] {
        let ended = run(&scene, arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("DropStorage is not usable: there is no such folder"), "{}", ended.stderr);
    }
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_sweep_counts_drops_that_wait_apart_from_those_with_missing_rows() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("DIRECTORY", "join");
    let drop = scene.drop(20, 1).await;
    scene.upload(&drop).await;
    let swept = run(&scene, &["sweep"]).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert!(swept.stderr.contains("swept 1 drops: 0 completed, 0 open,"), "{}", swept.stderr);
    assert!(swept.stderr.contains(", 1 waiting"), "{}", swept.stderr);
}

/// Only the Functions host ends a process after `functionTimeout`.
#[tokio::test]
async fn a_sweep_may_take_longer_than_the_function_timeout() {
    let mut scene = Scene::in_a_folder().await;
    scene.store.create_container(&scene.container).await.unwrap();
    scene.set("DEADLINE", "31m");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("host.json"), r#"{"functionTimeout": "00:30:00"}"#).unwrap();
    let swept = output_of(vivadrop().arg("sweep").current_dir(folder.path()).envs(&scene.settings)).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
}

#[tokio::test]
async fn a_sweep_reports_a_container_that_does_not_exist() {
    for mut scene in [Scene::in_a_folder().await, Scene::on_azurite().await] {
        scene.set("DROP_CONTAINER", "misspelt");
        let swept = run(&scene, &["sweep"]).await;
        assert_eq!(swept.code, Some(1), "{}", swept.stderr);
        assert!(swept.stderr.contains("cannot list `misspelt`: there is no such container"), "{}", swept.stderr);

        // A container without blobs is no error.
        scene.store.create_container("misspelt").await.unwrap();
        let swept = run(&scene, &["sweep"]).await;
        assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    }
}

#[tokio::test]
async fn the_files_a_and_a_json_b_of_a_drop_in_a_folder_are_both_delivered() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(30, 3).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let store = PathBuf::from(scene.settings["DropStorage"].trim_start_matches("file://"));
    let folder = store.join(drop.path());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    fs::rename(&files[0], folder.join("a")).unwrap();
    fs::create_dir(folder.join("a.json")).unwrap();
    fs::rename(&files[1], folder.join("a.json/b")).unwrap();

    let delivered = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(delivered.code, Some(0), "{}", delivered.stderr);
    assert_eq!(scene.receiver.received().drops[&drop.path()].files.len(), 3);
}

#[tokio::test]
async fn a_sweep_without_time_for_all_drops_did_not_finish() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("DEADLINE", "1ms");
    for _ in 0..3 {
        let drop = scene.drop(2, 1).await;
        scene.upload(&drop).await;
    }
    let swept = run(&scene, &["sweep"]).await;
    assert_eq!(swept.code, Some(1), "{}", swept.stderr);
    assert!(swept.stderr.contains("3 drops are left: another sweep runs them"), "{}", swept.stderr);
}

#[tokio::test]
async fn a_replay_that_was_not_recorded_is_continued_by_replay_and_not_by_deliver() {
    let azurite = Azurite::start();
    let scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    azurite.stop();
    let path = &*drop.path();
    for (arguments, command) in
        [(vec!["replay", path], "replay"), (vec!["replay", "--new-ids", path], "replay --new-ids")]
    {
        let ended = run(&scene, &arguments).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("`vivadrop {command} {path}` tries it again")), "{}", ended.stderr);
        assert!(!ended.stderr.contains("vivadrop deliver"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_replay_that_was_recorded_is_continued_by_deliver() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("DELIVERY_PATIENCE", "500ms");
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::status(503));
    let ended = run(&scene, &["replay", &drop.path()]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("`vivadrop deliver {}` continues it", drop.path())), "{}", ended.stderr);
}
