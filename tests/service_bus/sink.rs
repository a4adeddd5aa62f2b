//! The sink alone: one entity, messages without a drop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        Sink, SinkError, deliver,
        service_bus::{EntityAddress, Inspection, ServiceBus, ServiceBusConfig, SharedAccessKey},
    },
    verdict::{Reason, Verdict},
};

use crate::support::{
    credential::Credential,
    entra::Entra,
    message::{facts, rows_message},
    service_bus::{Behaviour, Entity, FULL, Namespace, Rights, THROTTLED},
    tls::Certificate,
};

/// Short waits between retries, for longer than any test takes.
const FAST_RETRIES: RetryBudget = RetryBudget {
    first_wait: Duration::from_millis(1),
    max_wait: Duration::from_millis(5),
    total: Duration::from_secs(20),
};

/// Short waits between retries, which end after 100 ms.
const FEW_RETRIES: RetryBudget = RetryBudget { total: Duration::from_millis(100), ..FAST_RETRIES };

struct Setup {
    sink: ServiceBus,
    namespace: Namespace,
}

impl Setup {
    async fn new(retry_budget: RetryBudget) -> Self {
        Self::with(Entity::default(), "", retry_budget).await
    }

    /// A sink with a key that may send, and its entity.
    async fn with(entity: Entity, query: &str, retry_budget: RetryBudget) -> Self {
        let namespace = Namespace::start(&Certificate::new(), None).await;
        namespace.create("rows", entity);
        let key = namespace.connection_string(Rights::Send);
        let sink = sink(&namespace, query, Some(&key), Credential(None), retry_budget);
        Self { sink, namespace }
    }
}

/// A sink that delivers to the entity `rows`, with a key or with the credential.
fn sink(
    namespace: &Namespace,
    query: &str,
    key: Option<&str>,
    credential: Credential,
    retry_budget: RetryBudget,
) -> ServiceBus {
    let deliver_to = format!("{}{query}", namespace.deliver_to("rows"));
    let address: EntityAddress = deliver_to.strip_prefix("servicebus://").unwrap().parse().unwrap();
    let key = key.map(|key| SharedAccessKey::new(key, &address).unwrap());
    let mut config = ServiceBusConfig::new(address, key);
    config.retry_budget = retry_budget;
    let client = reqwest::Client::builder()
        .tls_certs_only(
            [reqwest::Certificate::from_pem(&std::fs::read(namespace.certificate.file()).unwrap()).unwrap()],
        )
        .no_proxy()
        .build()
        .unwrap();
    ServiceBus::with_http_client(client, config, Arc::new(credential))
}

/// A message of one row.
fn message(row: u64) -> Message {
    rows_message(row..row + 1, &format!(r#"{{"row":{row}}}"#))
}

/// The last answer and the number of tries of an `Unavailable` error.
fn unavailable(error: SinkError) -> (String, u32) {
    match error {
        SinkError::Unavailable { answer, tries, .. } => (answer, tries),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_message_has_its_id_its_type_and_its_drop_as_properties() {
    let setup = Setup::with(Entity::default(), "?session=tenant", FAST_RETRIES).await;
    let (message, check) = (message(0), Message::check());
    deliver(&setup.sink, &message).await.unwrap();
    deliver(&setup.sink, &check).await.unwrap();

    let [received, checked] = &setup.namespace.messages("rows")[..] else { panic!("two messages") };
    assert_eq!(received.body, message.body);
    assert_eq!(received.id, message.id.as_str());
    assert_eq!(received.label, "viva.insights.rows");
    assert_eq!(received.session, Some(facts().tenant_id.to_string()));
    assert_eq!(received.content_type, "application/json");
    assert_eq!(received.drop.as_deref(), Some("datasets/run"));

    assert_eq!((checked.label.as_str(), checked.drop.as_deref()), ("vivadrop.check", None));
    assert_eq!(checked.session.as_deref(), Some("vivadrop"));
}

#[tokio::test]
async fn the_path_of_a_drop_is_percent_encoded_and_there_is_no_session_by_default() {
    let setup = Setup::new(FAST_RETRIES).await;
    let mut message = message(0);
    message.drop = Some("datasets/Läufe \"1+2%\"\r\nx-injected: 1/a~b_c-d.e".into());
    deliver(&setup.sink, &message).await.unwrap();
    let [received] = &setup.namespace.messages("rows")[..] else { panic!("one message") };
    let expected = "datasets/L%C3%A4ufe%20%221%2B2%25%22%0D%0Ax-injected%3A%201/a~b_c-d.e";
    assert_eq!((received.drop.as_deref(), received.session.as_deref()), (Some(expected), None));
}

#[tokio::test]
async fn a_lost_answer_causes_no_duplicate_in_the_entity() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.namespace.script([Behaviour::LoseResponse, Behaviour::LoseResponse, Behaviour::Normal]);
    deliver(&setup.sink, &message(0)).await.unwrap();
    deliver(&setup.sink, &message(1)).await.unwrap();
    assert_eq!(setup.namespace.requests().len(), 4);
    assert_eq!(setup.namespace.duplicates("rows"), 2);
    let ids: Vec<_> = setup.namespace.messages("rows").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [message(0).id.as_str(), message(1).id.as_str()]);
}

#[tokio::test]
async fn the_app_s_identity_requests_a_token_for_service_bus() {
    let entra = Entra::start().await;
    let namespace = Namespace::start(&entra.certificate, Some(entra.tokens())).await;
    namespace.create("rows", Entity::default());
    let with_token = sink(&namespace, "", None, Credential(Some(entra.tokens())), FEW_RETRIES);
    deliver(&with_token, &message(0)).await.unwrap();
    assert_eq!((namespace.messages("rows").len(), namespace.unauthorized()), (1, 0));

    let without = sink(&namespace, "", None, Credential(None), FEW_RETRIES);
    let error = deliver(&without, &message(1)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(error.to_string().contains("no user is signed in"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hidden"));
}

#[tokio::test]
async fn a_key_without_the_right_to_send_sets_nothing_aside() {
    let setup = Setup::new(FAST_RETRIES).await;
    let listen = setup.namespace.connection_string(Rights::Listen);
    let wrong = setup.namespace.connection_string(Rights::Send).replace("SharedAccessKey=", "SharedAccessKey=x");
    for key in [listen, wrong] {
        let sink = sink(&setup.namespace, "", Some(&key), Credential(None), FAST_RETRIES);
        let error = deliver(&sink, &message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry);
        assert!(error.to_string().contains("HTTP 401 Unauthorized"), "{error}");
        assert!(error.to_string().contains("Azure Service Bus Data Sender"), "{error}");
    }
    assert_eq!(setup.namespace.unauthorized(), 2, "not retried in the run");
}

#[tokio::test]
async fn throttling_is_retried_at_the_time_that_the_namespace_asks_for() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.namespace.script([THROTTLED]);
    let begun = Instant::now();
    deliver(&setup.sink, &message(0)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));

    setup.namespace.script([Behaviour::Status(429, "", Some("60"))]);
    let error = deliver(&setup.sink, &message(1)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(unavailable(error), ("HTTP 429 Too Many Requests".into(), 1));
}

#[tokio::test]
async fn a_full_entity_is_retried_until_its_consumer_has_read_messages() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.namespace.script([FULL, FULL, Behaviour::Status(403, "Error code : 50009.", None)]);
    deliver(&setup.sink, &message(0)).await.unwrap();
    assert_eq!(setup.namespace.requests().len(), 4);

    let setup = Setup::new(FEW_RETRIES).await;
    setup.namespace.answer_always(FULL);
    let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    let (answer, _) = unavailable(error);
    assert!(answer.starts_with("HTTP 403 Forbidden, SubCode 40300: the entity is full"), "{answer}");
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_entity_is_set_aside() {
    let setup = Setup::with(Entity { max_message: 2000, ..Entity::default() }, "", FAST_RETRIES).await;
    let large = rows_message(0..1, &format!(r#"{{"text":"{}"}}"#, "x".repeat(2000)));
    let error = deliver(&setup.sink, &large).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
    assert!(error.to_string().contains("lower BATCH_BYTES"), "{error}");

    let too_large = rows_message(0..1, &format!(r#"{{"text":"{}"}}"#, "x".repeat(245_760)));
    let before = setup.namespace.requests().len();
    let error = deliver(&setup.sink, &too_large).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
    assert!(error.to_string().ends_with("the limit of Service Bus with its properties is 245760"), "{error}");
    assert_eq!(setup.namespace.requests().len(), before, "a message that is too large is not sent");
}

#[tokio::test]
async fn an_entity_that_accepts_no_messages_sets_nothing_aside() {
    let setup = Setup::new(FAST_RETRIES).await;
    let fails = async |part: &str| {
        let before = setup.namespace.requests().len();
        let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        assert_eq!(setup.namespace.requests().len(), before + 1, "not retried in the run: {part}");
    };
    setup.namespace.change("rows", |entity| entity.status = "SendDisabled");
    fails("HTTP 403 Forbidden: check that the entity is enabled").await;
    setup.namespace.change("rows", |entity| (entity.status, entity.requires_session) = ("Active", true));
    fails("HTTP 400 Bad Request: the entity requires sessions; add ?session=tenant").await;
    setup.namespace.delete("rows");
    fails("HTTP 410 Gone, SubCode 40400: there is no such queue or topic").await;
    setup.namespace.script([Behaviour::Status(404, "", None)]);
    fails("HTTP 404 Not Found: there is no such queue or topic").await;
    setup.namespace.script([Behaviour::Status(403, "Quota exceeded or message too large.", None)]);
    fails("HTTP 403 Forbidden: check").await;
}

#[tokio::test]
async fn only_an_answer_about_the_message_rejects_it() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.namespace.script([Behaviour::Status(400, "A property is malformed.", None)]);
    let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
    assert!(error.to_string().ends_with("HTTP 400 Bad Request"), "{error}");
}

#[tokio::test]
async fn connections_are_kept() {
    let setup = Setup::new(FAST_RETRIES).await;
    let failures = [THROTTLED, FULL, Behaviour::Status(500, "", None)];
    setup.namespace.script(failures);
    let messages: Vec<_> = (0..40).map(message).collect();
    let deliveries = messages.iter().map(|message| deliver(&setup.sink, message));
    stream::iter(deliveries).buffered(4).try_collect::<()>().await.unwrap();
    assert_eq!(setup.namespace.messages("rows").len(), 40);
    assert!(setup.namespace.connections() <= 8, "{} connections", setup.namespace.connections());
}

#[tokio::test]
async fn the_properties_of_an_entity_are_read_with_the_right_to_manage() {
    let setup = Setup::new(FAST_RETRIES).await;
    assert_eq!(setup.sink.inspect().await, Ok(Inspection::NotPermitted));
    let key = setup.namespace.connection_string(Rights::Manage);
    let sink = sink(&setup.namespace, "", Some(&key), Credential(None), FAST_RETRIES);
    let Ok(Inspection::Found(properties)) = sink.inspect().await else { panic!("found") };
    assert_eq!(properties.duplicate_detection, Some(Duration::from_secs(3 * 86_400)));
    assert_eq!((properties.max_size, properties.requires_session, properties.is_enabled), (Some(1024), false, true));
    setup.namespace.delete("rows");
    assert_eq!(sink.inspect().await, Ok(Inspection::Missing));
}

#[tokio::test]
async fn names_debug_output_and_errors_contain_no_credentials() {
    let setup = Setup::new(FEW_RETRIES).await;
    let key = setup.namespace.connection_string(Rights::Send);
    let sink = sink(&setup.namespace, "", Some(&key), Credential(None), FEW_RETRIES);
    setup.namespace.answer_always(THROTTLED);
    let throttled = deliver(&sink, &message(0)).await.unwrap_err();
    setup.namespace.stop().await;
    let unreachable = deliver(&sink, &message(0)).await.unwrap_err();
    assert_eq!(unreachable.verdict(), Verdict::Retry);
    let output = format!("{sink:?} {} {throttled:?} {throttled} {unreachable:?} {unreachable}", sink.name());
    let (_, secret) = key.rsplit_once("SharedAccessKey=").unwrap();
    assert!(!output.contains(secret) && !output.contains("sig=") && !output.contains("hidden"), "{output}");
}
