//! `vivadrop check` with a Service Bus sink.

use std::time::Duration;

use super::drops::{BusScene, QUEUE};
use crate::support::service_bus::{Behaviour, Entity, Rights};

/// The lines about the sink that `vivadrop check` prints.
async fn sink_lines(partner: &BusScene) -> Vec<String> {
    let ended = partner.run(&["check"]).await;
    let lines = ended.stdout.lines().filter(|line| line.get(7..11) == Some("sink"));
    lines.map(str::to_owned).collect()
}

/// Lets the key read properties.
fn manage(partner: &mut BusScene) {
    let key = partner.namespace.connection_string(Rights::Manage);
    partner.scene.secrets.add("a shared access key", key.rsplit_once("SharedAccessKey=").unwrap().1);
    partner.scene.set("ServiceBus", &key);
}

#[tokio::test]
async fn the_check_sends_a_message_and_reads_the_properties_of_the_entity() {
    let mut partner = BusScene::new().await;
    manage(&mut partner);
    let [sent, read] = &sink_lines(&partner).await[..] else { panic!("two lines") };
    assert!(sent.starts_with("ok     sink      sent `vivadrop.check` with the id `msg_"), "{sent}");
    assert!(
        read.starts_with("ok     sink      read the properties of the Service Bus entity `viva/rows` in localhost:"),
        "{read}"
    );
    assert!(read.ends_with(": they are suitable"), "{read}");
}

#[tokio::test]
async fn each_unsuitable_property_is_reported_with_what_to_do() {
    let mut partner = BusScene::new().await;
    manage(&mut partner);
    let entity = Entity {
        window: Some(Duration::from_secs(600)),
        max_size_mb: 512,
        requires_session: true,
        status: "SendDisabled",
        ..Entity::default()
    };
    partner.namespace.create(QUEUE, entity);
    let lines = sink_lines(&partner).await;
    let expected = [
        "HTTP 403 Forbidden: check that the entity is enabled",
        "is disabled for sending -> enable it",
        "drops repeated ids for 10 minutes, and messages may be sent again for GIVE_UP_AFTER, 3 days -> set its duplicate",
        "has a maximum size of 512 MB, which a large drop fills -> set its maximum size to at least 1 GB",
        "requires sessions, and rejects messages without one -> add ?session=tenant to DELIVER_TO",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.starts_with("fix    ") && line.contains(part), "{line}");
    }

    partner.namespace.create(QUEUE, Entity { window: None, is_topic: true, ..Entity::default() });
    let lines = sink_lines(&partner).await;
    assert!(
        lines[1].contains("has no duplicate detection -> create it again with duplicate detection for at least 3 days"),
        "{lines:?}"
    );

    // A shorter GIVE_UP_AFTER needs a shorter window.
    partner.namespace.create(QUEUE, Entity { window: Some(Duration::from_secs(600)), ..Entity::default() });
    partner.scene.set("GIVE_UP_AFTER", "10m");
    let lines = sink_lines(&partner).await;
    assert!(lines[1].ends_with(": they are suitable"), "{lines:?}");
}

#[tokio::test]
async fn a_missing_entity_and_an_unavailable_namespace_are_reported() {
    let mut partner = BusScene::new().await;
    manage(&mut partner);
    partner.namespace.delete(QUEUE);
    let lines = sink_lines(&partner).await;
    assert!(lines[0].contains("HTTP 410 Gone, SubCode 40400: there is no such queue or topic"), "{lines:?}");
    assert!(lines[1].contains("does not exist -> create the queue or topic, with duplicate detection"), "{lines:?}");

    partner.namespace.create(QUEUE, Entity::default());
    partner.scene.set("DELIVERY_PATIENCE", "100ms");
    partner.namespace.answer_always(Behaviour::Status(503, "", None));
    let lines = sink_lines(&partner).await;
    assert!(lines.iter().all(|line| line.starts_with("retry  ")), "{lines:?}");
}

#[tokio::test]
async fn a_key_or_an_identity_that_may_only_send_is_enough() {
    let mut partner = BusScene::new().await;
    let note = "may not read the properties of the Service Bus entity `viva/rows`";
    let [sent, read] = &sink_lines(&partner).await[..] else { panic!("two lines") };
    assert!(sent.starts_with("ok     ") && read.starts_with("note   ") && read.contains(note), "{sent} {read}");
    assert!(read.contains("-> make sure that it has duplicate detection for at least 3 days"), "{read}");

    partner.scene.settings.remove("ServiceBus");
    partner.scene.settings.extend(partner.entra.with_managed_identity());
    let [_, read] = &sink_lines(&partner).await[..] else { panic!("two lines") };
    assert!(read.starts_with("note   "), "{read}");
    partner.namespace.let_tokens_manage();
    let [_, read] = &sink_lines(&partner).await[..] else { panic!("two lines") };
    assert!(read.starts_with("ok     "), "{read}");
}
