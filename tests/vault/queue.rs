//! A queue in an account that accepts only tokens of Microsoft Entra ID.

use crate::support::{
    azurite::Azurite,
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    queue::QueueConsumer,
    scene::{Scene, SimulatedDrop, assert_complete},
};

/// Delivers a drop; the output must contain no secret.
async fn deliver(scene: &Scene, drop: &SimulatedDrop) -> CommandOutput {
    let ended = output_of(vivadrop().arg("deliver").arg(drop.path()).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    ended
}

#[tokio::test]
async fn rows_are_delivered_to_a_queue_with_a_managed_identity_once_there_is_a_token() {
    let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
    let azurite = Azurite::with_tokens(&entra.certificate);
    let token = entra.tokens().issue("https://storage.azure.com");
    let end = QueueConsumer::with_token(&azurite, token, entra.certificate.client());
    scene.settings.extend(entra.with_managed_identity());
    entra.add_secrets(&scene.secrets);
    scene.set("DELIVER_TO", &end.deliver_to());
    scene.set("DELIVERY_PATIENCE", "500ms");
    scene.set("SinkStorage__queueServiceUri", &azurite.queue_endpoint());
    let identity = entra.user_assigned();
    scene.set("SinkStorage__clientId", &identity);
    let drop = scene.drop(2_000, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    entra.fail(Some(400));
    let ended = deliver(&scene, &drop).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);

    entra.fail(None);
    scene.set("DELIVERY_PATIENCE", "1m");
    let ended = deliver(&scene, &drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let messages = end.receive_all().await;
    assert!(messages.len() > 30, "{} messages", messages.len());
    let identities = entra.token_requests();
    assert!(identities.iter().all(|used| *used == format!("managed {identity}")), "{identities:?}");
    end.forward_to(&scene.receiver, &messages).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}
