//! Drops that go to a queue: what lies there is what a webhook would have got, in messages as large as a queue takes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::receiver::Answer;
use vivadrop::drop::DropPath;

use crate::support::{
    azurite,
    command::{CommandOutput, output_of, vivadrop},
    queue::{QueueConsumer, QueueMessage},
    scene::{METADATA, Scene, assert_complete},
};

/// The most bytes of JSON that fit a message.
const LARGEST: usize = 49_152;

/// A scene whose rows go to a queue.
async fn scene() -> (Scene, QueueConsumer) {
    let mut scene = Scene::on_azurite().await;
    let end = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &end.deliver_to());
    (scene, end)
}

async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    assert_eq!(ended.stdout, "");
    ended
}

/// Lays a drop of one file that is not encrypted, `lines`, which is to be taken all the same.
async fn lay_plain(scene: &mut Scene, lines: &[String]) -> DropPath {
    scene.set("ALLOW_PLAINTEXT", "true");
    let path = DropPath::new(&scene.container, format!("long \"runs\"/{}", scene.tenant));
    let metadata = json!({"TenantId": scene.tenant.to_string(), "NumberOfRowsExtracted": lines.len(),
        "CopyActivityId": uuid::Uuid::new_v4().to_string(), "TableName": "ü".repeat(300)});
    scene.write(&path, METADATA, metadata.to_string()).await;
    scene.write(&path, "part-0.json", lines.concat()).await;
    path
}

/// A line that is a row with so many bytes of text.
fn line(number: usize, bytes: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}\n", "x".repeat(bytes))
}

fn range(message: &Value) -> (u64, u64) {
    (message["data"]["firstRow"].as_u64().unwrap(), message["data"]["endRow"].as_u64().unwrap())
}

/// The rows of `messages`, by the ids and ranges that they came by.
fn cuts(messages: &[QueueMessage]) -> BTreeMap<String, (u64, u64)> {
    let rows = messages.iter().map(QueueMessage::json).filter(|json| json["type"] == "viva.insights.rows");
    rows.map(|json| (json["id"].as_str().unwrap().to_owned(), range(&json))).collect()
}

/// How many bytes the first row of a message takes.
fn first_row_bytes(message: &QueueMessage) -> usize {
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    let (_, rows) = text.split_once("\"rows\":[").unwrap();
    rows.split("},{").next().unwrap().trim_end_matches("}]}}").len() + 1
}

#[tokio::test]
async fn a_drop_goes_to_a_queue_as_to_a_webhook_in_messages_that_are_full() {
    let (scene, end) = scene().await;
    let drop = scene.drop(1200, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let taken = end.receive_all().await;
    assert!(taken.iter().all(|message| message.body.len() <= LARGEST && message.expires.contains(" 9999 ")));
    let mut files = BTreeMap::<String, BTreeMap<u64, &QueueMessage>>::new();
    for message in taken.iter().filter(|message| message.json()["type"] == "viva.insights.rows") {
        let json = message.json();
        let file = json["data"]["file"].as_str().unwrap().to_owned();
        files.entry(file).or_default().insert(range(&json).0, message);
    }
    for messages in files.values() {
        let messages: Vec<_> = messages.values().collect();
        assert!(messages.len() > 5, "{} messages", messages.len());
        for pair in messages.windows(2) {
            let (_, end) = range(&pair[0].json());
            // A comma, the row, and a digit where the next number has one more.
            let with_next =
                pair[0].body.len() + 1 + first_row_bytes(pair[1]) + usize::from([9, 99, 999].contains(&end));
            assert!(with_next > LARGEST, "the next row would have made {with_next} bytes");
        }
    }
    end.forward_to(&scene.receiver, &taken).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn bad_rows_are_told_of_in_messages_that_fit() {
    let (mut scene, end) = scene().await;
    scene.set("BAD_ROWS_ALLOWED", "2000");
    let bad_or_long = |number| if number % 4 == 0 { line(number, 12_000) } else { "no row\n".to_owned() };
    let path = lay_plain(&mut scene, &(0..1200).map(bad_or_long).collect::<Vec<_>>()).await;
    let ended = run(&scene, &["deliver", &path.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let taken = end.receive_all().await;
    assert!(taken.iter().all(|message| message.body.len() <= LARGEST));
    assert!(taken.iter().any(|message| message.body.len() > LARGEST - 12_000));
    end.forward_to(&scene.receiver, &taken).await;
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!((of_drop.row_count(), of_drop.files["part-0.json"].bad_rows.len()), (300, 900));
    assert_eq!((of_drop.completed[0].rows, of_drop.completed[0].bad_rows), (300, 900));
}

#[tokio::test]
async fn a_row_that_no_message_has_room_for_sets_its_file_aside_behind_the_rows_before_it() {
    let (mut scene, end) = scene().await;
    let lines: Vec<_> = (0..20).map(|number| line(number, if number == 13 { 49_000 } else { 10_000 })).collect();
    let path = lay_plain(&mut scene, &lines).await;
    let ended = run(&scene, &["deliver", &path.to_string()]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);

    end.forward_to(&scene.receiver, &end.receive_all().await).await;
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!(of_drop.row_count(), 13);
    let [failed] = &of_drop.failed[..] else { panic!("{:?}", of_drop.failed) };
    assert_eq!((failed.reason.as_str(), failed.rows_delivered), ("refused", 13));
    assert!(failed.message.contains("row 13 takes 490"), "{}", failed.message);

    // A webhook takes it: mended by a setting, and a replay.
    scene.set("DELIVER_TO", scene.receiver.url().as_str());
    assert_eq!(run(&scene, &["replay", &path.to_string()]).await.code, Some(0));
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!((of_drop.completed[0].rows, of_drop.files["part-0.json"].changed), (20, 0));
    assert_eq!(received.duplicates, 4, "what the queue had comes again by the same ids");
}

#[tokio::test]
async fn a_replay_to_a_queue_has_the_same_ids_whatever_was_set_since() {
    let (mut scene, end) = scene().await;
    let drop = scene.drop(400, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    let first = cuts(&end.receive_all().await);

    scene.set("BATCH_BYTES", "9000");
    scene.set("BATCH_ROWS", "7");
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    assert_eq!(cuts(&end.receive_all().await), first);

    // Even where the rows go elsewhere meanwhile.
    scene.set("DELIVER_TO", scene.receiver.url().as_str());
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    let log = scene.receiver.received().log;
    let ids = log.iter().filter_map(|delivery| Some((delivery.id.clone(), delivery.rows?)));
    assert_eq!(ids.collect::<BTreeMap<_, _>>(), first);
}

#[tokio::test]
async fn a_file_that_was_begun_for_a_webhook_is_finished_to_a_queue() {
    let (mut scene, end) = scene().await;
    let queue = scene.settings["DELIVER_TO"].clone();
    scene.set("DELIVER_TO", scene.receiver.url().as_str());
    scene.set("DELIVERY_PATIENCE", "500ms");
    let drop = scene.drop(1500, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_by(|delivery| match delivery.rows {
        Some((0, _)) => Answer::Accept,
        _ => Answer::status(503),
    });
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(1));
    assert_eq!(scene.receiver.received().row_count(), 500);

    scene.set("DELIVER_TO", &queue);
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.receiver.answer_always(Answer::Accept);
    end.forward_to(&scene.receiver, &end.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_failure_is_told_on_a_queue_however_long_its_text_is() {
    let (mut scene, end) = scene().await;
    let path = lay_plain(&mut scene, &[]).await;
    let metadata = json!({"TenantId": scene.tenant.to_string(), "TableName": "\u{1}".repeat(1000),
        "RequestStartDate": "\u{1}".repeat(1000), "RequestEndDate": "\u{1}".repeat(1000), "Errors": "\"".repeat(90_000)});
    scene.write(&path, METADATA, metadata.to_string()).await;
    assert_eq!(run(&scene, &["deliver", &path.to_string()]).await.code, Some(3));
    let [taken] = &end.receive_all().await[..] else { panic!("one message") };
    assert_eq!(taken.json()["data"]["reason"], "errors");
}

#[tokio::test]
async fn a_folder_has_no_queues_but_an_account_beside_it_has() {
    let mut scene = Scene::in_a_folder().await;
    let end = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &end.deliver_to());
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("SinkStorage is not set, and DropStorage is a folder"), "{}", ended.stderr);

    scene.set("SinkStorage", &azurite::shared().connection_string());
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    end.forward_to(&scene.receiver, &end.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}
