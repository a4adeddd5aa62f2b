//! Asking for keys, against a stand-in of the API on loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
    http::StatusCode,
    time::OffsetDateTime,
};
use serde_json::{Value, json};
use testkit::viva_api::{Behaviour, KeyRequest, VivaApiStub};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use url::Url;
use vivadrop::{
    drop::TenantId,
    keys::{
        KeyError, WrappedKeys,
        custody::{Expiry, PublicKey},
        viva_api::{NotUsable, VivaApi, partner_key::PartnerApp},
    },
    retry::RetryBudget,
    verdict::Verdict,
};

const REQUEST: &str = "4F5D0B34-8C0E-4F0F-9B0E-2E6A3C6A7C11";
const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
const SCOPE: &str = "https://viva.example/.default";

/// Many tries within a second.
const PATIENCE: RetryBudget =
    RetryBudget { first: Duration::from_millis(2), longest: Duration::from_millis(20), total: Duration::from_secs(1) };

fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

fn answer() -> Value {
    json!({"decryptionKeys": [{"type": "File", "value": "c2VjcmV0", "iv": "AAECAwQFBgcICQoLDA0ODw=="}]})
}

async fn stub() -> VivaApiStub {
    VivaApiStub::start([(REQUEST.to_owned(), tenant().0, answer())]).await.unwrap()
}

fn api(stub: &VivaApiStub, token: Option<Arc<dyn TokenCredential>>) -> VivaApi {
    VivaApi::new(stub.url(), token, SCOPE.to_owned()).unwrap().with_limits(PATIENCE, Duration::from_secs(5))
}

async fn ask(api: &VivaApi) -> Result<WrappedKeys, KeyError> {
    api.egress_decryption_key(REQUEST, tenant()).await
}

fn refused(keys: Result<WrappedKeys, KeyError>) -> String {
    match keys {
        Err(KeyError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn unavailable(keys: Result<WrappedKeys, KeyError>) -> String {
    match keys {
        Err(KeyError::Unavailable { what, source }) => format!("{what}: {source}"),
        other => panic!("{other:?}"),
    }
}

/// Gives `token-0`, `token-1`, … up to the last of `tokens`, or fails.
#[derive(Debug)]
struct Tokens {
    tokens: usize,
    asked: AtomicUsize,
}

impl Tokens {
    fn of(tokens: usize) -> Arc<Self> {
        Arc::new(Self { tokens, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl TokenCredential for Tokens {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, [SCOPE]);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        match self.tokens.checked_sub(1) {
            Some(last) => Ok(AccessToken::new(
                format!("token-{}", number.min(last)),
                OffsetDateTime::now_utc() + Duration::from_secs(3600),
            )),
            None => Err(azure_core::Error::from(ErrorKind::Connection)),
        }
    }
}

#[tokio::test]
async fn the_keys_of_a_request_are_asked_for_by_its_ids() {
    let stub = stub().await;
    let keys = ask(&api(&stub, None)).await.unwrap();
    assert_eq!(keys.file.unwrap().value, b"secret");
    assert_eq!(keys.column, None);
    let asked = KeyRequest { request_id: REQUEST.to_owned(), scope_id: TENANT.to_owned() };
    assert_eq!(stub.key_requests(), [asked]);
}

#[tokio::test]
async fn the_answer_in_the_other_spelling_is_read_as_well() {
    let stub = stub().await;
    let iv = "AAECAwQFBgcICQoLDA0ODw==";
    let keys = json!({"DecryptionKeys": [{"DecryptionKeyType": "Column", "Value": "Yw==", "IV": iv},
                                         {"DecryptionKeyType": "File", "Value": "Zg==", "IV": iv}]});
    stub.add_keys("another", tenant().0, keys);
    let keys = api(&stub, None).egress_decryption_key("another", tenant()).await.unwrap();
    assert_eq!((keys.file.unwrap().value, keys.column.unwrap().value), (b"f".to_vec(), b"c".to_vec()));
}

#[tokio::test]
async fn a_request_that_the_api_does_not_know_is_refused_at_once() {
    let stub = stub().await;
    let text = refused(api(&stub, None).egress_decryption_key("unknown", tenant()).await);
    assert!(text.contains("`unknown`") && text.contains("HTTP 400 Bad Request, BadRequest"), "{text}");
    let elsewhere = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    refused(api(&stub, None).egress_decryption_key(REQUEST, elsewhere).await);
    assert_eq!(stub.requests(), 2);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let stub = stub().await;
    for status in [408, 429, 500, 502, 503, 504] {
        let body = String::new();
        stub.answer_next(1, Behaviour::Status { status, body });
    }
    stub.answer_next(2, Behaviour::Disconnect);
    assert!(ask(&api(&stub, None)).await.is_ok());
    assert_eq!(stub.requests(), 9);
}

#[tokio::test]
async fn patience_ends_with_who_did_not_answer() {
    let stub = stub().await;
    stub.answer_always(Behaviour::Status {
        status: 503,
        body: json!({"error": {"code": "ServerBusy", "message": "secret"}}).to_string(),
    });
    let patience = RetryBudget { total: Duration::from_millis(100), ..PATIENCE };
    let api = api(&stub, None).with_limits(patience, Duration::from_secs(5));
    let text = unavailable(ask(&api).await);
    let name = stub.url().origin().ascii_serialization();
    assert_eq!(text, format!("the Viva Insights API at `{name}`: HTTP 503 Service Unavailable, ServerBusy"));
    assert!(stub.requests() > 1);
}

#[tokio::test]
async fn a_service_that_is_down_did_not_answer() {
    let stub = stub().await;
    stub.answer_always(Behaviour::Disconnect);
    unavailable(ask(&api(&stub, None)).await);
    assert!(stub.requests() > 2);
    stub.answer_always(Behaviour::Normal);
    assert!(ask(&api(&stub, None)).await.is_ok());
}

#[tokio::test]
async fn a_service_that_has_gone_did_not_answer() {
    let stub = stub().await;
    let api = api(&stub, None);
    drop(stub);
    unavailable(ask(&api).await);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_and_tried_again() {
    let stub = stub().await;
    stub.answer_next(1, Behaviour::Slow(Duration::from_secs(60)));
    let patience = RetryBudget { total: Duration::from_secs(30), ..PATIENCE };
    let api = api(&stub, None).with_limits(patience, Duration::from_millis(200));
    assert!(ask(&api).await.is_ok());
    assert!(stub.requests() > 1);
}

#[tokio::test]
async fn a_retry_after_beyond_patience_ends_the_tries() {
    for retry_after in ["3600".to_owned(), "Sun, 22 Nov 2099 00:00:00 GMT".to_owned()] {
        let stub = stub().await;
        stub.answer_always(Behaviour::Throttled { retry_after });
        unavailable(ask(&api(&stub, None)).await);
        assert_eq!(stub.requests(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_that_has_passed_is_no_wait() {
    let stub = stub().await;
    let retry_after = "Sun, 22 Nov 2020 00:00:00 GMT".to_owned();
    stub.answer_next(1, Behaviour::Throttled { retry_after });
    assert!(ask(&api(&stub, None)).await.is_ok());
}

#[tokio::test]
async fn every_other_status_is_final_and_its_body_is_not_quoted() {
    for status in [301, 307, 401, 403, 404, 405, 413] {
        let stub = stub().await;
        let body = "secret".to_owned();
        stub.answer_always(Behaviour::Status { status, body });
        let text = refused(ask(&api(&stub, None)).await);
        assert!(text.contains(&format!("HTTP {status}")) && !text.contains("secret"), "{text}");
        assert_eq!(stub.requests(), 1);
    }
}

/// Answers each connection with these bytes, whatever was asked, and closes it.
async fn always(answer: String) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stub = stub().await;
    for status in [302, 307, 308] {
        let elsewhere = format!("{}v1.0/egressDecryptionKey", stub.url());
        let url =
            always(format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n")).await;
        let text = refused(ask(&VivaApi::new(&url, None, String::new()).unwrap()).await);
        assert!(text.contains(&format!("HTTP {status}")), "{text}");
    }
    assert_eq!(stub.requests(), 0);
}

#[tokio::test]
async fn a_200_that_breaks_off_is_tried_again() {
    let url = always(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{}", answer())).await;
    let api = VivaApi::new(&url, None, String::new()).unwrap().with_limits(PATIENCE, Duration::from_secs(5));
    unavailable(ask(&api).await);
}

#[tokio::test]
async fn a_200_without_keys_is_refused_and_not_quoted() {
    let no_keys = json!({"decryptionKeys": []}).to_string();
    let long = format!("{{\"a\":\"{}\"}}", "secret".repeat(20_000));
    for body in ["<html>secret</html>", "\"secret\"", "", "{\"secret\":", &no_keys, &long] {
        let stub = stub().await;
        let body = body.to_owned();
        stub.answer_always(Behaviour::Status { status: 200, body });
        let text = refused(ask(&api(&stub, None)).await);
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(stub.requests(), 1);
    }
}

#[tokio::test]
async fn a_200_with_a_damaged_key_is_a_wrong_key() {
    let stub = stub().await;
    stub.add_keys(REQUEST, tenant().0, json!({"decryptionKeys": [{"type": "File", "value": "secret!", "iv": "AA=="}]}));
    let keys = ask(&api(&stub, None)).await;
    assert!(matches!(&keys, Err(KeyError::Wrong(text)) if text == "the File key's value is not Base64"), "{keys:?}");
}

#[tokio::test]
async fn a_token_is_sent_along() {
    let stub = stub().await;
    stub.require_token("token-0");
    let tokens = Tokens::of(1);
    assert!(ask(&api(&stub, Some(Arc::<Tokens>::clone(&tokens)))).await.is_ok());
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_token_that_lapsed_on_the_way_is_renewed_once() {
    let stub = stub().await;
    stub.require_token("token-1");
    assert!(ask(&api(&stub, Some(Tokens::of(2)))).await.is_ok());
    assert_eq!(stub.requests(), 2);
}

#[tokio::test]
async fn a_token_that_is_not_taken_says_what_to_check() {
    for (tokens, requests) in [(1, 1), (9, 2)] {
        let stub = stub().await;
        stub.require_token("hunter2");
        let text = refused(ask(&api(&stub, Some(Tokens::of(tokens)))).await);
        assert!(text.contains("HTTP 401") && text.contains("PARTNER_APP_SECRET"), "{text}");
        assert!(!text.contains("token-"), "{text}");
        assert_eq!(stub.requests(), requests);
    }
}

#[tokio::test]
async fn without_a_token_service_nothing_is_asked_and_all_is_tried_again() {
    let stub = stub().await;
    let tokens = Tokens::of(0);
    let text = unavailable(ask(&api(&stub, Some(Arc::<Tokens>::clone(&tokens)))).await);
    assert!(text.starts_with("the token service: "), "{text}");
    assert!(tokens.asked.load(Ordering::Relaxed) > 2);
    assert_eq!(stub.requests(), 0);
}

/// Answers as Microsoft Entra ID does once a client secret has expired.
#[derive(Debug, Default)]
struct Expired(AtomicUsize);

#[async_trait]
impl TokenCredential for Expired {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (status, error_code) = (StatusCode::Unauthorized, Some("7000222".to_owned()));
        Err(azure_core::Error::from(ErrorKind::HttpResponse { status, error_code, raw_response: None }))
    }
}

#[tokio::test]
async fn an_expired_secret_of_ours_is_no_drops_fault_and_is_not_offered_again_at_once() {
    let (stub, expired) = (stub().await, Arc::new(Expired::default()));
    let error = ask(&api(&stub, Some(Arc::<Expired>::clone(&expired)))).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::TryAgain);
    let text = error.to_string();
    assert!(text.contains("AADSTS7000222") && text.contains("renew PARTNER_APP_SECRET"), "{text}");
    assert_eq!((expired.0.load(Ordering::Relaxed), stub.requests()), (1, 0));
}

#[tokio::test]
async fn a_token_needs_a_scope() {
    let stub = stub().await;
    let api = VivaApi::new(stub.url(), Some(Tokens::of(1)), " ".to_owned());
    assert!(matches!(api, Err(NotUsable::NoScope)));
}

#[tokio::test]
async fn asking_may_move_between_threads() {
    let stub = stub().await;
    let api = api(&stub, Some(Tokens::of(1)));
    assert!(tokio::spawn(async move { ask(&api).await }).await.unwrap().is_ok());
}

fn partner() -> PartnerApp {
    PartnerApp { app_id: uuid::Uuid::from_u128(1), tenant_id: uuid::Uuid::from_u128(2) }
}

fn public_key(first: u8) -> PublicKey {
    let modulus = [vec![first], vec![7; 255]].concat();
    PublicKey { version: "1".into(), modulus, exponent: vec![1, 0, 1], expiry: Expiry::NotKept, enabled: true }
}

#[tokio::test]
async fn a_key_is_registered_for_one_customer_alone() {
    let stub = stub().await;
    let api = api(&stub, None);
    let said = api.egress_partner_key(partner(), tenant(), &public_key(0xc3)).await.unwrap();
    let lasts = said.expires.unwrap() - said.created.unwrap();
    assert_eq!(lasts.whole_days(), 365);
    let registered = &stub.partner_keys()[TENANT];
    assert_eq!(registered.modulus, public_key(0xc3).modulus);
    assert_eq!(registered.partner_app_id, partner().app_id.to_string());
    assert_eq!(registered.tenant_id, partner().tenant_id.to_string());

    let other = TenantId(uuid::Uuid::from_u128(3));
    let same = api.egress_partner_key(partner(), other, &public_key(0xc3)).await.unwrap_err();
    assert!(same.to_string().contains("(HTTP 400 Bad Request, DuplicateKey)"), "{same}");
    api.egress_partner_key(partner(), other, &public_key(0xc4)).await.unwrap();
    assert_eq!(stub.registrations(), 2);
}

#[tokio::test]
async fn a_registration_that_is_not_answered_is_tried_again() {
    let stub = stub().await;
    stub.answer_next(1, Behaviour::Disconnect);
    stub.answer_next(1, Behaviour::Status { status: 503, body: String::new() });
    api(&stub, None).egress_partner_key(partner(), tenant(), &public_key(0xc3)).await.unwrap();
    assert_eq!((stub.requests(), stub.registrations()), (3, 1));
}

#[tokio::test]
async fn a_knock_shows_whether_we_are_let_in_and_asks_for_no_keys() {
    let stub = stub().await;
    api(&stub, None).knock().await.unwrap();
    let asked = KeyRequest { request_id: String::new(), scope_id: uuid::Uuid::nil().to_string() };
    assert_eq!(stub.key_requests(), [asked]);

    stub.require_token("token-0");
    api(&stub, Some(Tokens::of(1))).knock().await.unwrap();
    let outside = api(&stub, None).knock().await.unwrap_err();
    assert!(outside.to_string().contains("does not let the token in (HTTP 401"), "{outside}");
}

#[tokio::test]
async fn a_token_is_tried_before_the_api_is() {
    let stub = stub().await;
    assert!(!api(&stub, None).try_token().await.unwrap(), "none is needed");
    assert!(api(&stub, Some(Tokens::of(1))).try_token().await.unwrap());
    assert!(matches!(api(&stub, Some(Tokens::of(0))).try_token().await, Err(KeyError::Unavailable { .. })));
    assert_eq!(stub.requests(), 0);
}
