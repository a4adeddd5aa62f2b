//! Kills the process during an import of survey attributes, while it waits for the answer to a message.

use std::{
    collections::HashMap,
    iter::repeat,
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::TryStreamExt;
use serde_json::{Value, json};
use testkit::receiver::{Answer, Received};
use vivadrop::{simulate::SimulateOptions, store::read_current};

use crate::support::{
    attributes::{AppliedAttributes, define, latest_cycle, preview},
    command::{LONG, output_of, vivadrop},
    scene::{Scene, SimulatedDrop, assert_complete},
};

const PREFIX: &str = "viva.insights.attributes";

/// The longest record of an import, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// How often a process is started, once a second, until it obtains the lease on the imports.
const BUSY_TRIES: u32 = 30;

/// When a process is killed: while the receiver has its message about attributes with this number, before or after the
/// receiver has accepted it.
#[derive(Debug, Clone, Copy)]
struct Kill {
    message: usize,
    is_accepted: bool,
}

/// Starts a command that imports, and kills it. The lease of a process that was killed before may have to lapse first.
async fn run_until_killed(scene: &Scene, arguments: &[&str], kill: Kill) {
    let process = Arc::<Mutex<Option<u32>>>::default();
    let (victim, mut number) = (Arc::clone(&process), 0);
    scene.receiver.answer_by(move |delivery| {
        number += usize::from(delivery.kind.starts_with(PREFIX));
        if number != kill.message + 1 {
            // Slow enough for a checkpoint after each message.
            return Answer::Accept.after(Duration::from_millis(if number > 0 { 1100 } else { 0 }));
        }
        let victim = victim.lock().unwrap().expect("a process that sends has an id").to_string();
        assert!(std::process::Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
        if kill.is_accepted { Answer::AcceptAndDisconnect } else { Answer::Disconnect }
    });
    for _ in 0..BUSY_TRIES {
        let mut command = vivadrop();
        command.args(arguments).envs(&scene.settings).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = {
            let mut process = process.lock().unwrap();
            let child = command.spawn().unwrap();
            *process = child.id();
            child
        };
        let status = tokio::time::timeout(LONG, child.wait()).await.expect("the process ends").unwrap();
        if status.signal() == Some(9) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the process sends no message at which it could be killed: {kill:?}");
}

/// The ledger's record of the import; null if no import has begun.
async fn record(scene: &Scene) -> Value {
    let folder = scene.state_blob(&format!("imports/{}/cycles/", scene.tenant));
    let blob = scene.store.list(&folder.container, &folder.name).try_next().await.unwrap();
    let Some(blob) = blob else { return Value::Null };
    let (_, text) = read_current(&*scene.store, &blob.path, MAX_RECORD).await.unwrap().unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The messages about attributes that the receiver had, accepted or not.
fn messages(received: &Received) -> Vec<Value> {
    let messages = received.bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
    messages.filter(|message| message["type"].as_str().unwrap().starts_with(PREFIX)).collect()
}

/// A drop of 90 people, which are sent in three messages, and definitions for it.
async fn scene_and_drop(mut scene: Scene) -> (Scene, SimulatedDrop, Value) {
    scene.set("BATCH_ROWS", "30");
    scene.set("IN_FLIGHT", "1");
    let drop = scene.drop_like(SimulateOptions { users: 90, weeks: 13, ..SimulateOptions::default() }).await;
    let definitions = json!({
        "attributes": [{"name": "Email hours"}, {"name": "Focus", "metric": "TotalFocusHours", "max": [5, 10, 15]}],
        "programs": [{"name": "Engagement", "cycles": [latest_cycle("Now")]}]});
    scene.upload(&drop).await;
    define(&scene, scene.tenant, &definitions).await;
    (scene, drop, definitions)
}

/// Sweeps until the import has ended.
async fn finish(scene: &Scene) {
    scene.receiver.answer_always(Answer::Accept);
    for _ in 0..BUSY_TRIES {
        let ended = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        if record(scene).await["announced"] == true {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the import did not end");
}

/// Checks that the receiver has the import that `preview` computes, from messages that did not change when they were
/// sent again.
async fn assert_imported(scene: &Scene, drop: &SimulatedDrop, definitions: &Value) {
    let received = scene.receiver.received();
    assert_complete(&received, drop, &scene.rows_of(drop).await);
    let mut bodies = HashMap::new();
    for mut message in messages(&received) {
        message["timestamp"].take();
        let first = bodies.entry(message["id"].clone()).or_insert_with(|| message.clone());
        assert_eq!(*first, message, "a message that is sent again is the same");
    }
    let kinds = ["", ".completed", ".defined"].map(|kind| {
        let kind = format!("{PREFIX}{kind}");
        bodies.values().filter(|message| message["type"] == *kind).count()
    });
    assert_eq!((kinds, bodies.len()), ([3, 1, 1], 5));
    let applied = AppliedAttributes::of(&received.attribute_bodies, scene.tenant);
    assert_eq!(applied.sequences, [(1, format!("{PREFIX}.completed"))]);
    let import = &applied.imports[&("Engagement".into(), "Now".into())];
    let [expected] = &preview(drop, definitions).await[..] else { panic!("one cycle") };
    assert_eq!((&json!(import.people), &import.counts), (&expected["people"], &expected["counts"]));
}

/// Starts and kills one process for each element of `kills`. Returns the position of the first person that was sent,
/// for each process that sent people.
async fn run_and_kill(scene: &Scene, drop: &SimulatedDrop, kills: &[(usize, bool)]) -> Vec<u64> {
    let (path, mut continued_at) = (drop.path(), Vec::new());
    // The first process delivers the rows as well.
    let mut commands = [vec!["deliver", &path], vec!["import", &path]].into_iter().chain(repeat(vec!["sweep"]));
    for &(message, is_accepted) in kills {
        let (before, recorded) = (messages(&scene.receiver.received()).len(), record(scene).await);
        run_until_killed(scene, &commands.next().unwrap(), Kill { message, is_accepted }).await;
        let sent = messages(&scene.receiver.received()).split_off(before);
        if let Some(person) = sent.iter().find_map(|message| message["data"]["firstPerson"].as_u64()) {
            assert_eq!(person, recorded["nextPerson"].as_u64().unwrap_or(0));
            continued_at.push(person);
        }
    }
    continued_at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_at_every_message_continues_with_the_recorded_person() {
    let (scene, drop, definitions) = scene_and_drop(Scene::in_a_folder().await).await;
    let at_defined = [(0, false), (0, true)];
    let at_people = [(1, false), (0, true), (1, true), (0, false), (1, false)];
    let at_completed = [(1, false), (0, false), (0, true)];
    let kills = [&at_defined[..], &at_people, &at_completed].concat();
    assert_eq!(run_and_kill(&scene, &drop, &kills).await, [0, 0, 0, 30, 30, 60]);
    finish(&scene).await;
    assert_imported(&scene, &drop, &definitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_whose_process_is_killed_continues_when_its_lease_has_lapsed() {
    let (scene, drop, definitions) = scene_and_drop(Scene::on_azurite().await).await;
    let kills = [(0, false), (2, true), (2, false)];
    assert_eq!(run_and_kill(&scene, &drop, &kills).await, [0, 30]);
    finish(&scene).await;
    assert_imported(&scene, &drop, &definitions).await;
}
