//! Whole drops with the built binary.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{sleep, timeout};

use crate::support::{
    command::{CommandOutput, LONG, output_of, vivadrop},
    entra::Entra,
    scene::{METADATA, Scene, SimulatedDrop, assert_complete},
    service_bus::{Behaviour, Entity, FULL, Namespace, Received, Rights, THROTTLED},
};

/// A partner that delivers to the queue `viva/rows`.
pub(super) struct BusScene {
    pub(super) scene: Scene,
    pub(super) namespace: Namespace,
    pub(super) entra: Entra,
}

pub(super) const QUEUE: &str = "viva/rows";

impl BusScene {
    pub(super) async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let namespace = Namespace::start(&entra.certificate, Some(entra.tokens())).await;
        namespace.create(QUEUE, Entity::default());
        let key = namespace.connection_string(Rights::Send);
        scene.secrets.add("a shared access key", key.rsplit_once("SharedAccessKey=").unwrap().1);
        scene.secrets.add("a shared access signature", "sig=");
        entra.add_secrets(&scene.secrets);
        scene.set("DELIVER_TO", &namespace.deliver_to(QUEUE));
        scene.set("ServiceBus", &format!("{key};EntityPath={QUEUE}"));
        scene.set("SSL_CERT_FILE", &entra.certificate.file().display().to_string());
        Self { scene, namespace, entra }
    }

    /// Runs a command with the settings of the scene; its output must contain no secret.
    pub(super) async fn run(&self, arguments: &[&str]) -> CommandOutput {
        let ended = output_of(vivadrop().args(arguments).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        self.scene.secrets.check(&ended.stdout);
        ended
    }

    /// Uploads a drop of `rows` rows; returns it with its rows.
    async fn upload(&self, rows: u64) -> (SimulatedDrop, Vec<String>) {
        let drop = self.scene.drop(rows, 2).await;
        let rows = self.scene.rows_of(&drop).await;
        self.scene.upload(&drop).await;
        (drop, rows)
    }

    /// Checks that the entity holds exactly `rows`, each once, and one ending.
    async fn assert_exactly_once(&self, drop: &SimulatedDrop, rows: &[String]) -> Vec<Received> {
        let messages = self.namespace.messages(QUEUE);
        self.namespace.forward_to(&self.scene.receiver, &messages).await;
        let received = self.scene.receiver.received();
        assert_complete(&received, drop, rows);
        assert_eq!(received.duplicates, 0, "the entity holds a message twice");
        messages
    }
}

fn ids(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.id.as_str()).collect()
}

#[tokio::test]
async fn a_drop_is_delivered_with_a_key_for_the_entity() {
    let partner = BusScene::new().await;
    let (drop, rows) = partner.upload(3000).await;
    let ended = partner.run(&["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let messages = partner.assert_exactly_once(&drop, &rows).await;
    assert!(messages.iter().all(|message| message.body.len() <= 240 << 10));
    assert!(messages.iter().any(|message| message.body.len() > 150 << 10), "batches are as large as allowed");
    for message in messages {
        let json = message.json();
        assert_eq!((json["id"].as_str(), json["type"].as_str()), (Some(&*message.id), Some(&*message.label)));
        let path = percent_encoding::percent_decode_str(message.drop.as_deref().unwrap()).decode_utf8().unwrap();
        assert_eq!(path, drop.path());
    }
    assert!(partner.entra.token_requests().is_empty());
}

#[tokio::test]
async fn a_drop_is_delivered_with_a_managed_identity_and_a_session_per_tenant() {
    let mut partner = BusScene::new().await;
    partner.scene.settings.remove("ServiceBus");
    partner.scene.settings.extend(partner.entra.with_managed_identity());
    partner.namespace.change(QUEUE, |entity| entity.requires_session = true);
    let (drop, rows) = partner.upload(100).await;

    let ended = partner.run(&["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("add ?session=tenant to DELIVER_TO"), "{}", ended.stderr);

    let deliver_to = format!("{}?session=tenant", partner.namespace.deliver_to(QUEUE));
    partner.scene.set("DELIVER_TO", &deliver_to);
    let ended = partner.run(&["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let messages = partner.assert_exactly_once(&drop, &rows).await;
    let tenant = partner.scene.tenant.to_string();
    assert!(messages.iter().all(|message| message.session.as_ref() == Some(&tenant)));
}

#[tokio::test]
async fn lost_answers_throttling_and_a_full_entity_cause_no_duplicates() {
    let partner = BusScene::new().await;
    let (drop, rows) = partner.upload(3000).await;
    partner.namespace.script([
        Behaviour::LoseResponse,
        THROTTLED,
        FULL,
        Behaviour::LoseResponse,
        Behaviour::Normal,
        Behaviour::LoseResponse,
        Behaviour::Status(500, "", None),
    ]);
    let ended = partner.run(&["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(partner.namespace.duplicates(QUEUE), 3);
    partner.assert_exactly_once(&drop, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_exactly_once_although_the_handler_is_killed() {
    let partner = BusScene::new().await;
    let (drop, rows) = partner.upload(12_000).await;
    let mut host = partner.scene.host().await;
    partner.namespace.answer_always(Behaviour::SlowResponse(Duration::from_millis(100)));
    for requests in [5, 12] {
        let (client, event) = (host.client(), partner.scene.event(&drop, METADATA));
        let posted = tokio::spawn(async move { client.try_post(&event).await });
        let has_sent_messages = async {
            while partner.namespace.requests().len() < requests {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, has_sent_messages).await.expect("the handler sends messages to the entity");
        host.kill_and_restart().await;
        assert_eq!(posted.await.unwrap(), None);
    }
    partner.namespace.answer_always(Behaviour::Normal);
    let answers = host.trigger(&partner.scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert!(partner.namespace.duplicates(QUEUE) > 0, "expected messages in flight to be repeated");
    partner.assert_exactly_once(&drop, &rows).await;
}

#[tokio::test]
async fn a_replay_within_the_window_delivers_nothing_and_warns() {
    let mut partner = BusScene::new().await;
    let (drop, rows) = partner.upload(1000).await;
    assert_eq!(partner.run(&["deliver", &drop.path()]).await.code, Some(0));
    let first = partner.namespace.messages(QUEUE);
    let rows_messages = first.iter().filter(|message| message.label == "viva.insights.rows").count();

    let ended = partner.run(&["replay", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("warning: a Service Bus entity with duplicate detection drops the ids"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("`vivadrop replay --new-ids "), "{}", ended.stderr);
    let again = partner.namespace.messages(QUEUE);
    let of_rows = again.iter().filter(|message| message.label == "viva.insights.rows").count();
    assert_eq!(of_rows, rows_messages, "the entity drops the repeated ids");
    assert!(partner.namespace.duplicates(QUEUE) >= rows_messages as u64);

    // With new ids, all rows arrive.
    let ended = partner.run(&["replay", "--new-ids", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("warning: a Service Bus entity"), "{}", ended.stderr);
    let new = partner.namespace.messages(QUEUE).split_off(again.len());
    assert!(new.iter().all(|message| !ids(&first).contains(&message.id.as_str())));
    assert_eq!(new.iter().filter(|message| message.label == "viva.insights.rows").count(), rows_messages);

    // After the window, repeated ids are delivered again.
    partner.namespace.skip(Duration::from_secs(4 * 86_400));
    let before = partner.namespace.messages(QUEUE).len();
    assert_eq!(partner.run(&["replay", &drop.path()]).await.code, Some(0));
    let last = partner.namespace.messages(QUEUE).split_off(before);
    assert_eq!(last.iter().filter(|message| message.label == "viva.insights.rows").count(), rows_messages);
    assert_has_rows(&last, &rows);

    // Other sinks deliver repeated ids.
    let webhook = partner.scene.receiver.url().to_string();
    partner.scene.set("DELIVER_TO", &webhook);
    let ended = partner.run(&["replay", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("Service Bus"), "{}", ended.stderr);
}

/// Checks that `messages` have exactly `rows`.
fn assert_has_rows(messages: &[Received], rows: &[String]) {
    let count = |texts: Vec<String>| {
        texts.into_iter().fold(BTreeMap::<String, usize>::new(), |mut counts, text| {
            *counts.entry(text).or_default() += 1;
            counts
        })
    };
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
    let found =
        messages.iter().flat_map(|message| message.json()["data"]["rows"].as_array().cloned().unwrap_or_default());
    let found = count(found.map(|row| row.to_string()).collect());
    assert_eq!(found, count(rows.iter().map(|row| parsed(row)).collect()));
}

#[tokio::test]
async fn a_tenant_has_an_entity_of_its_own() {
    let mut partner = BusScene::new().await;
    partner.namespace.create("own", Entity::default());
    let (tenant, key) = (partner.scene.tenant, partner.namespace.connection_string(Rights::Send));
    partner.scene.secrets.add("the tenant's key", key.rsplit_once("SharedAccessKey=").unwrap().1);
    let own = serde_json::json!({"DELIVER_TO": partner.namespace.deliver_to("own"), "ServiceBus": key});
    partner.scene.set("TENANTS", &serde_json::json!({tenant.to_string(): own}).to_string());
    // The stub keeps one key per name: the one that the tenant has.
    partner.scene.set("ServiceBus", &key);
    let (drop, _) = partner.upload(20).await;
    let ended = partner.run(&["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(partner.namespace.messages(QUEUE).is_empty());
    assert_eq!(partner.namespace.messages("own").len(), 3);
}
