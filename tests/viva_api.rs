//! The client of the Viva Insights API, against a stub on loopback.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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
        CallLimits, KeyError, WrappedKeys,
        key_store::{KeyExpiry, PublicKey},
        viva_api::{InvalidVivaApi, VivaApi, partner_key::PartnerApp},
    },
    retry::RetryBudget,
    verdict::{Reason, Verdict},
};

const REQUEST: &str = "4F5D0B34-8C0E-4F0F-9B0E-2E6A3C6A7C11";
const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
const SCOPE: &str = "https://viva.example/.default";

/// Allows many tries within a second.
const RETRY: RetryBudget = RetryBudget {
    first_wait: Duration::from_millis(2),
    max_wait: Duration::from_millis(20),
    total: Duration::from_secs(1),
};

const LIMITS: CallLimits = CallLimits { retry: RETRY, try_timeout: Duration::from_secs(5) };

fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

/// A response of the API with a File key.
fn response() -> Value {
    json!({"decryptionKeys": [{"type": "File", "value": "c2VjcmV0", "iv": "AAECAwQFBgcICQoLDA0ODw=="}]})
}

/// A stub that has the keys of [`REQUEST`].
async fn stub() -> VivaApiStub {
    VivaApiStub::start([(REQUEST.to_owned(), tenant().0, response())]).await.unwrap()
}

/// A client of the stub.
fn api(stub: &VivaApiStub, token: Option<Arc<dyn TokenCredential>>) -> VivaApi {
    VivaApi::new(stub.url(), token, SCOPE.to_owned()).unwrap().with_limits(LIMITS)
}

/// Requests the keys of [`REQUEST`].
async fn request_keys(api: &VivaApi) -> Result<WrappedKeys, KeyError> {
    api.egress_decryption_key(REQUEST, tenant()).await
}

/// The text of a `NoKey` error.
fn no_key(keys: Result<WrappedKeys, KeyError>) -> String {
    match keys {
        Err(KeyError::NoKey(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The text of an error that sets nothing aside, although the request is not repeated at once.
fn misconfigured(keys: Result<WrappedKeys, KeyError>) -> String {
    let error = keys.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry, "{error}");
    assert!(!matches!(error, KeyError::Unavailable { .. }), "{error}");
    error.to_string()
}

/// The service and the cause of an `Unavailable` error.
fn unavailable(keys: Result<WrappedKeys, KeyError>) -> String {
    match keys {
        Err(KeyError::Unavailable { what, source, .. }) => format!("{what}: {source}"),
        other => panic!("{other:?}"),
    }
}

/// Provides `token-0`, `token-1`, … and then always the last of `tokens` tokens; fails if `tokens` is 0.
#[derive(Debug)]
struct Tokens {
    tokens: usize,
    requests: AtomicUsize,
}

impl Tokens {
    /// A source of this many tokens.
    fn of(tokens: usize) -> Arc<Self> {
        Arc::new(Self { tokens, requests: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl TokenCredential for Tokens {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, [SCOPE]);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
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
async fn keys_are_requested_by_request_id_and_tenant() {
    let stub = stub().await;
    let keys = request_keys(&api(&stub, None)).await.unwrap();
    assert_eq!(keys.file.unwrap().value, b"secret");
    assert_eq!(keys.column, None);
    let request = KeyRequest { request_id: REQUEST.to_owned(), scope_id: TENANT.to_owned() };
    assert_eq!(stub.key_requests(), [request]);
}

#[tokio::test]
async fn both_spellings_of_the_response_are_parsed() {
    let stub = stub().await;
    let iv = "AAECAwQFBgcICQoLDA0ODw==";
    let keys = json!({"DecryptionKeys": [{"DecryptionKeyType": "Column", "Value": "Yw==", "IV": iv},
                                         {"DecryptionKeyType": "File", "Value": "Zg==", "IV": iv}]});
    stub.add_keys("another", tenant().0, keys);
    let keys = api(&stub, None).egress_decryption_key("another", tenant()).await.unwrap();
    assert_eq!((keys.file.unwrap().value, keys.column.unwrap().value), (b"f".to_vec(), b"c".to_vec()));
}

#[tokio::test]
async fn an_unknown_request_id_or_tenant_is_not_retried() {
    let stub = stub().await;
    let text = no_key(api(&stub, None).egress_decryption_key("unknown", tenant()).await);
    assert!(text.contains("`unknown`") && text.contains("HTTP 400 Bad Request, BadRequest"), "{text}");
    let elsewhere = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    no_key(api(&stub, None).egress_decryption_key(REQUEST, elsewhere).await);
    assert_eq!(stub.requests(), 2);
}

#[tokio::test]
async fn transient_failures_are_retried() {
    let stub = stub().await;
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let body = String::new();
        stub.answer_next(1, Behaviour::Status { status, body });
    }
    stub.answer_next(2, Behaviour::Disconnect);
    assert!(request_keys(&api(&stub, None)).await.is_ok());
    assert_eq!(stub.requests(), 10);
}

#[tokio::test]
async fn the_error_names_the_service_once_the_retry_budget_is_used_up() {
    let stub = stub().await;
    stub.answer_always(Behaviour::Status {
        status: 503,
        body: json!({"error": {"code": "ServerBusy", "message": "secret"}}).to_string(),
    });
    let retry = RetryBudget { total: Duration::from_millis(100), ..RETRY };
    let api = api(&stub, None).with_limits(CallLimits { retry, ..LIMITS });
    let text = unavailable(request_keys(&api).await);
    let name = stub.url().origin().ascii_serialization();
    assert_eq!(text, format!("the Viva Insights API at `{name}`: HTTP 503 Service Unavailable, ServerBusy"));
    assert!(stub.requests() > 1);
}

#[tokio::test]
async fn a_service_that_closes_connections_is_unavailable() {
    let stub = stub().await;
    stub.answer_always(Behaviour::Disconnect);
    unavailable(request_keys(&api(&stub, None)).await);
    assert!(stub.requests() > 2);
    stub.answer_always(Behaviour::Normal);
    assert!(request_keys(&api(&stub, None)).await.is_ok());
}

#[tokio::test]
async fn a_service_that_accepts_no_connections_is_unavailable() {
    let stub = stub().await;
    let api = api(&stub, None);
    drop(stub);
    unavailable(request_keys(&api).await);
}

#[tokio::test]
async fn a_request_that_times_out_is_retried() {
    let stub = stub().await;
    stub.answer_next(1, Behaviour::Slow(Duration::from_secs(60)));
    let retry = RetryBudget { total: Duration::from_secs(30), ..RETRY };
    let api = api(&stub, None).with_limits(CallLimits { retry, try_timeout: Duration::from_millis(200) });
    assert!(request_keys(&api).await.is_ok());
    assert!(stub.requests() > 1);
}

#[tokio::test]
async fn a_retry_after_beyond_the_retry_budget_ends_the_tries() {
    for retry_after in ["3600".to_owned(), "Sun, 22 Nov 2099 00:00:00 GMT".to_owned()] {
        let stub = stub().await;
        stub.answer_always(Behaviour::Throttled { retry_after });
        let error = request_keys(&api(&stub, None)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)), "an hour at most");
        unavailable(Err(error));
        assert_eq!(stub.requests(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_in_the_past_does_not_delay_the_retry() {
    let stub = stub().await;
    let retry_after = "Sun, 22 Nov 2020 00:00:00 GMT".to_owned();
    stub.answer_next(1, Behaviour::Throttled { retry_after });
    assert!(request_keys(&api(&stub, None)).await.is_ok());
}

#[tokio::test]
async fn an_api_that_has_no_keys_for_the_drop_sets_it_aside() {
    for status in [400, 404] {
        let stub = stub().await;
        stub.answer_always(Behaviour::Status { status, body: "secret".to_owned() });
        let error = request_keys(&api(&stub, None)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::NoKey));
        let text = error.to_string();
        assert!(text.contains(&format!("HTTP {status}")) && text.contains("check CopyActivityId"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(stub.requests(), 1);
    }
}

#[tokio::test]
async fn an_api_that_denies_access_sets_nothing_aside_and_its_body_is_not_quoted() {
    for (status, fix) in [
        (301, "check VIVA_API_URL"),
        (307, "check VIVA_API_URL"),
        (401, "check PARTNER_TENANT_ID"),
        (403, "check PARTNER_TENANT_ID"),
        (405, "check VIVA_API_URL"),
        (410, "check VIVA_API_URL"),
        (413, "check VIVA_API_URL"),
    ] {
        let stub = stub().await;
        let body = "secret".to_owned();
        stub.answer_always(Behaviour::Status { status, body });
        let text = misconfigured(request_keys(&api(&stub, None)).await);
        assert!(text.contains(&format!("HTTP {status}")) && text.contains(fix), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(stub.requests(), 1);
    }
}

/// Starts a server that answers every connection with `response` and closes it. Also returns the number of requests so
/// far.
async fn server_answering(response: String) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            counted.fetch_add(1, Ordering::Relaxed);
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (url, requests)
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stub = stub().await;
    for status in [302, 307, 308] {
        let elsewhere = format!("{}v1.0/egressDecryptionKey", stub.url());
        let (url, requests) = server_answering(format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        let text = misconfigured(request_keys(&VivaApi::new(&url, None, String::new()).unwrap()).await);
        assert!(text.contains(&format!("HTTP {status}")), "{text}");
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }
    assert_eq!(stub.requests(), 0);
}

#[tokio::test]
async fn a_successful_response_that_is_cut_off_is_retried() {
    let cut_off = format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{}", response());
    let (url, requests) = server_answering(cut_off).await;
    let api = VivaApi::new(&url, None, String::new()).unwrap().with_limits(LIMITS);
    unavailable(request_keys(&api).await);
    assert!(requests.load(Ordering::Relaxed) > 1, "{requests:?}");
}

#[tokio::test]
async fn a_gateway_that_answers_200_without_an_object_sets_nothing_aside_and_is_not_quoted() {
    let long = format!("{{\"a\":\"{}\"}}", "secret".repeat(20_000));
    for body in ["<html>secret</html>", "\"secret\"", "", "{\"secret\":", &long] {
        let stub = stub().await;
        let body = body.to_owned();
        stub.answer_always(Behaviour::Status { status: 200, body });
        let text = misconfigured(request_keys(&api(&stub, None)).await);
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(stub.requests(), 1);
    }
}

#[tokio::test]
async fn a_successful_response_without_keys_sets_the_drop_aside() {
    let stub = stub().await;
    stub.answer_always(Behaviour::Status { status: 200, body: json!({"decryptionKeys": []}).to_string() });
    let text = no_key(request_keys(&api(&stub, None)).await);
    assert!(text.contains("has no File key"), "{text}");
}

#[tokio::test]
async fn a_successful_response_with_a_malformed_key_is_a_wrong_key() {
    let stub = stub().await;
    stub.add_keys(REQUEST, tenant().0, json!({"decryptionKeys": [{"type": "File", "value": "secret!", "iv": "AA=="}]}));
    let keys = request_keys(&api(&stub, None)).await;
    assert!(matches!(&keys, Err(KeyError::WrongKey(text)) if text == "the File key's value is not Base64"), "{keys:?}");
}

#[tokio::test]
async fn requests_are_authenticated_with_the_token() {
    let stub = stub().await;
    stub.require_token("token-0");
    let tokens = Tokens::of(1);
    assert!(request_keys(&api(&stub, Some(Arc::<Tokens>::clone(&tokens)))).await.is_ok());
    assert_eq!(tokens.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_expired_token_is_renewed_once() {
    let stub = stub().await;
    stub.require_token("token-1");
    assert!(request_keys(&api(&stub, Some(Tokens::of(2)))).await.is_ok());
    assert_eq!(stub.requests(), 2);
}

#[tokio::test]
async fn a_rejected_token_names_the_settings_to_check() {
    for (tokens, requests) in [(1, 1), (9, 2)] {
        let stub = stub().await;
        stub.require_token("hunter2");
        let text = misconfigured(request_keys(&api(&stub, Some(Tokens::of(tokens)))).await);
        assert!(text.contains("HTTP 401") && text.contains("PARTNER_APP_SECRET"), "{text}");
        assert!(!text.contains("token-"), "{text}");
        assert_eq!(stub.requests(), requests);
    }
}

#[tokio::test]
async fn an_unavailable_token_service_is_retried_and_nothing_is_sent_without_a_token() {
    let stub = stub().await;
    let tokens = Tokens::of(0);
    let text = unavailable(request_keys(&api(&stub, Some(Arc::<Tokens>::clone(&tokens)))).await);
    assert!(text.starts_with("the token service: "), "{text}");
    assert!(tokens.requests.load(Ordering::Relaxed) > 2);
    assert_eq!(stub.requests(), 0);
}

/// Fails as Microsoft Entra ID does when a client secret has expired.
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
async fn an_expired_client_secret_does_not_set_the_drop_aside_and_is_not_retried_at_once() {
    let (stub, expired) = (stub().await, Arc::new(Expired::default()));
    let error = request_keys(&api(&stub, Some(Arc::<Expired>::clone(&expired)))).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    let text = error.to_string();
    assert!(text.contains("AADSTS7000222") && text.contains("renew PARTNER_APP_SECRET"), "{text}");
    assert_eq!((expired.0.load(Ordering::Relaxed), stub.requests()), (1, 0));
}

#[tokio::test]
async fn a_token_needs_a_scope() {
    let stub = stub().await;
    let api = VivaApi::new(stub.url(), Some(Tokens::of(1)), " ".to_owned());
    assert!(matches!(api, Err(InvalidVivaApi::NoScope)));
}

#[tokio::test]
async fn requests_can_move_between_threads() {
    let stub = stub().await;
    let api = api(&stub, Some(Tokens::of(1)));
    assert!(tokio::spawn(async move { request_keys(&api).await }).await.unwrap().is_ok());
}

fn partner() -> PartnerApp {
    PartnerApp { app_id: uuid::Uuid::from_u128(1), tenant_id: uuid::Uuid::from_u128(2) }
}

/// A public key whose modulus begins with `first`.
fn public_key(first: u8) -> PublicKey {
    let modulus = [vec![first], vec![7; 255]].concat();
    PublicKey { version: "1".into(), modulus, exponent: vec![1, 0, 1], expiry: KeyExpiry::Unknown, enabled: true }
}

#[tokio::test]
async fn a_key_is_registered_for_one_customer_only() {
    let stub = stub().await;
    let api = api(&stub, None);
    let registered = api.egress_partner_key(partner(), tenant(), &public_key(0xc3)).await.unwrap();
    let validity = registered.expires.unwrap() - registered.created.unwrap();
    assert_eq!(validity.whole_days(), 365);
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
async fn a_registration_without_a_response_is_retried() {
    let stub = stub().await;
    stub.answer_next(1, Behaviour::Disconnect);
    stub.answer_next(1, Behaviour::Status { status: 503, body: String::new() });
    api(&stub, None).egress_partner_key(partner(), tenant(), &public_key(0xc3)).await.unwrap();
    assert_eq!((stub.requests(), stub.registrations()), (3, 1));
}

#[tokio::test]
async fn a_probe_tests_access_and_requests_no_keys() {
    let stub = stub().await;
    api(&stub, None).probe().await.unwrap();
    let request = KeyRequest { request_id: String::new(), scope_id: uuid::Uuid::nil().to_string() };
    assert_eq!(stub.key_requests(), [request]);

    stub.require_token("token-0");
    api(&stub, Some(Tokens::of(1))).probe().await.unwrap();
    let denied = api(&stub, None).probe().await.unwrap_err();
    assert!(denied.to_string().contains("rejects the token (HTTP 401"), "{denied}");
}

#[tokio::test]
async fn requesting_a_token_sends_nothing_to_the_api() {
    let stub = stub().await;
    assert!(!api(&stub, None).try_token().await.unwrap(), "without a credential no token is needed");
    assert!(api(&stub, Some(Tokens::of(1))).try_token().await.unwrap());
    assert!(matches!(api(&stub, Some(Tokens::of(0))).try_token().await, Err(KeyError::Unavailable { .. })));
    assert_eq!(stub.requests(), 0);
}
