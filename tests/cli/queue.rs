//! Drops that are delivered to a queue: the same messages as on a webhook, cut to the size limit of a queue.

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

/// The maximum size of a message in bytes of JSON.
const LARGEST_MESSAGE: usize = 49_152;

/// A scene whose sink is a queue.
async fn scene() -> (Scene, QueueConsumer) {
    let mut scene = Scene::on_azurite().await;
    let queue = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &queue.deliver_to());
    (scene, queue)
}

/// Runs a command with the settings of the scene. Its stdout must be empty, and its stderr contain no secret.
async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    assert_eq!(ended.stdout, "");
    ended
}

/// Uploads a drop with one plaintext file that consists of `lines`, and allows plaintext.
async fn lay_plain(scene: &mut Scene, lines: &[String]) -> DropPath {
    scene.set("ALLOW_PLAINTEXT", "true");
    let path = DropPath::new(&scene.container, format!("long \"runs\"/{}", scene.tenant));
    let metadata = json!({"TenantId": scene.tenant.to_string(), "NumberOfRowsExtracted": lines.len(),
        "CopyActivityId": uuid::Uuid::new_v4().to_string(), "TableName": "ü".repeat(300)});
    scene.write(&path, METADATA, metadata.to_string()).await;
    scene.write(&path, "part-0.json", lines.concat()).await;
    path
}

/// A line with a row that has a text of `bytes` bytes.
fn line(number: usize, bytes: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}\n", "x".repeat(bytes))
}

/// The range of rows of a message.
fn range(message: &Value) -> (u64, u64) {
    (message["data"]["firstRow"].as_u64().unwrap(), message["data"]["endRow"].as_u64().unwrap())
}

/// The ids and row ranges of the batches among `messages`.
fn batches(messages: &[QueueMessage]) -> BTreeMap<String, (u64, u64)> {
    let rows = messages.iter().map(QueueMessage::json).filter(|json| json["type"] == "viva.insights.rows");
    rows.map(|json| (json["id"].as_str().unwrap().to_owned(), range(&json))).collect()
}

/// The size of the first row of a message in bytes.
fn first_row_bytes(message: &QueueMessage) -> usize {
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    let (_, rows) = text.split_once("\"rows\":[").unwrap();
    rows.split("},{").next().unwrap().trim_end_matches("}]}}").len() + 1
}

#[tokio::test]
async fn a_new_queue_is_logged_once() {
    let (mut scene, _queue) = scene().await;
    scene.set("RUST_LOG", "info");
    let drop = scene.drop(5_000, 1).await;
    scene.upload(&drop).await;
    let delivered = run(&scene, &["deliver", &drop.path().to_string()]).await;
    assert_eq!(delivered.code, Some(0), "{}", delivered.stderr);
    assert_eq!(delivered.stderr.matches("created the queue").count(), 1, "{}", delivered.stderr);
}

#[tokio::test]
async fn a_drop_is_delivered_to_a_queue_in_messages_as_large_as_possible() {
    let (scene, queue) = scene().await;
    let drop = scene.drop(1200, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let messages = queue.receive_all().await;
    assert!(messages.iter().all(|message| message.body.len() <= LARGEST_MESSAGE && message.expires.contains(" 9999 ")));
    let mut files = BTreeMap::<String, BTreeMap<u64, &QueueMessage>>::new();
    for message in messages.iter().filter(|message| message.json()["type"] == "viva.insights.rows") {
        let json = message.json();
        let file = json["data"]["file"].as_str().unwrap().to_owned();
        files.entry(file).or_default().insert(range(&json).0, message);
    }
    for messages in files.values() {
        let messages: Vec<_> = messages.values().collect();
        assert!(messages.len() > 5, "{} messages", messages.len());
        for pair in messages.windows(2) {
            let (_, end_row) = range(&pair[0].json());
            // A comma, the row, and one more digit if `endRow` gets longer.
            let with_next =
                pair[0].body.len() + 1 + first_row_bytes(pair[1]) + usize::from([9, 99, 999].contains(&end_row));
            assert!(with_next > LARGEST_MESSAGE, "with the next row the message would have only {with_next} bytes");
        }
    }
    queue.forward_to(&scene.receiver, &messages).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn messages_with_bad_rows_stay_below_the_size_limit() {
    let (mut scene, queue) = scene().await;
    scene.set("BAD_ROWS_ALLOWED", "2000");
    let row_or_bad_row = |number| if number % 4 == 0 { line(number, 12_000) } else { "not a row\n".to_owned() };
    let path = lay_plain(&mut scene, &(0..1200).map(row_or_bad_row).collect::<Vec<_>>()).await;
    let ended = run(&scene, &["deliver", &path.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let messages = queue.receive_all().await;
    assert!(messages.iter().all(|message| message.body.len() <= LARGEST_MESSAGE));
    assert!(messages.iter().any(|message| message.body.len() > LARGEST_MESSAGE - 12_000));
    queue.forward_to(&scene.receiver, &messages).await;
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!((of_drop.row_count(), of_drop.files["part-0.json"].bad_rows.len()), (300, 900));
    assert_eq!((of_drop.completed[0].rows, of_drop.completed[0].bad_rows), (300, 900));
}

#[tokio::test]
async fn a_row_larger_than_a_message_sets_its_file_aside_after_the_rows_before_it() {
    let (mut scene, queue) = scene().await;
    let lines: Vec<_> = (0..20).map(|number| line(number, if number == 13 { 49_000 } else { 10_000 })).collect();
    let path = lay_plain(&mut scene, &lines).await;
    let ended = run(&scene, &["deliver", &path.to_string()]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);

    queue.forward_to(&scene.receiver, &queue.receive_all().await).await;
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!(of_drop.row_count(), 13);
    let [failed] = &of_drop.failed[..] else { panic!("{:?}", of_drop.failed) };
    assert_eq!((failed.reason.as_str(), failed.rows_delivered), ("refused", 13));
    assert!(failed.message.contains("row 13 takes 490"), "{}", failed.message);

    // A webhook has no such limit: after a change of the sink, a replay delivers the drop.
    scene.set("DELIVER_TO", scene.receiver.url().as_str());
    assert_eq!(run(&scene, &["replay", &path.to_string()]).await.code, Some(0));
    let received = scene.receiver.received();
    let of_drop = &received.drops[&path.to_string()];
    assert_eq!((of_drop.completed[0].rows, of_drop.files["part-0.json"].changed), (20, 0));
    assert_eq!(received.duplicates, 4, "the rows that the queue has are sent again with the same ids");
}

#[tokio::test]
async fn a_replay_to_a_queue_has_the_same_ids_even_if_settings_have_changed() {
    let (mut scene, queue) = scene().await;
    let drop = scene.drop(400, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    let first = batches(&queue.receive_all().await);

    scene.set("BATCH_BYTES", "9000");
    scene.set("BATCH_ROWS", "7");
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    assert_eq!(batches(&queue.receive_all().await), first);

    // The ids stay the same even if the sink has changed.
    scene.set("DELIVER_TO", scene.receiver.url().as_str());
    assert_eq!(run(&scene, &["replay", &drop.path()]).await.code, Some(0));
    let log = scene.receiver.received().log;
    let ids = log.iter().filter_map(|delivery| Some((delivery.id.clone(), delivery.rows?)));
    assert_eq!(ids.collect::<BTreeMap<_, _>>(), first);
}

#[tokio::test]
async fn a_file_that_was_started_on_a_webhook_is_finished_on_a_queue() {
    let (mut scene, queue) = scene().await;
    let deliver_to = scene.settings["DELIVER_TO"].clone();
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

    scene.set("DELIVER_TO", &deliver_to);
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.receiver.answer_always(Answer::Accept);
    queue.forward_to(&scene.receiver, &queue.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_failure_with_a_very_long_text_fits_into_a_queue_message() {
    let (mut scene, queue) = scene().await;
    let path = lay_plain(&mut scene, &[]).await;
    let metadata = json!({"TenantId": scene.tenant.to_string(), "TableName": "\u{1}".repeat(1000),
        "RequestStartDate": "\u{1}".repeat(1000), "RequestEndDate": "\u{1}".repeat(1000), "Errors": "\"".repeat(90_000)});
    scene.write(&path, METADATA, metadata.to_string()).await;
    assert_eq!(run(&scene, &["deliver", &path.to_string()]).await.code, Some(3));
    let [failed] = &queue.receive_all().await[..] else { panic!("one message") };
    assert_eq!(failed.json()["data"]["reason"], "errors");
}

#[tokio::test]
async fn drops_in_a_folder_need_a_storage_account_for_the_queue() {
    let mut scene = Scene::in_a_folder().await;
    let queue = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &queue.deliver_to());
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("SinkStorage is not set, and DropStorage is a folder"), "{}", ended.stderr);

    scene.set("SinkStorage", &azurite::shared().connection_string());
    assert_eq!(run(&scene, &["deliver", &drop.path()]).await.code, Some(0));
    queue.forward_to(&scene.receiver, &queue.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}
