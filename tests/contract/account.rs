//! Behaviour of Azure accounts only: signatures, outages, content encodings.

use std::{sync::Arc, time::Duration};

use azure_core::http::RequestContent;
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::BlobClientUploadOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use secrecy::ExposeSecret;
use vivadrop::store::{ReadWindow, StoreError, azure::Account, list_at_most, read};

use crate::{
    store::StoreFixture,
    support::azurite::{self, Azurite},
};

/// The shared Azurite, with its account key.
fn shared_account() -> Account {
    Account::from_connection_string(&azurite::shared().connection_string()).unwrap()
}

/// A fixture on the shared Azurite that uses this SAS.
fn with_sas(sas: &str) -> StoreFixture {
    let azurite = azurite::shared();
    let text = format!("BlobEndpoint={};SharedAccessSignature={sas}", azurite.blob_endpoint());
    StoreFixture::on(azurite, &text)
}

#[tokio::test]
async fn a_sas_gives_the_same_access_as_an_account_key() {
    let sas = shared_account().shared_access_signature().unwrap();
    let fixture = with_sas(sas.expose_secret());
    let blob = fixture.put("run/part-0", "rows").await;
    assert_eq!(fixture.range(&blob, 0..4).await.unwrap(), "rows");
    assert_eq!(fixture.names("run/").await, ["run/part-0"]);
}

#[tokio::test]
async fn a_wrong_signature_is_denied() {
    let sas = shared_account().shared_access_signature().unwrap();
    let fixture = with_sas(&sas.expose_secret().replace("sp=rwdlacup", "sp=rwdlacupx"));
    let error = fixture.store.find(&fixture.path("part-0")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
    let error = list_at_most(&*fixture.store, &fixture.container, "", 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn the_sas_is_valid_for_the_queue_service() {
    let account = shared_account();
    let sas = account.shared_access_signature().unwrap();
    let queue = format!("{}/{}", account.queue_endpoint().unwrap(), azurite::shared().unique_name("rows"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let created = http.put(format!("{queue}?{}", sas.expose_secret()));
    assert_eq!(created.send().await.unwrap().status(), 201);
    let sent = http
        .post(format!("{queue}/messages?messagettl=-1&{}", sas.expose_secret()))
        .body("<QueueMessage><MessageText>e30=</MessageText></QueueMessage>");
    assert_eq!(sent.send().await.unwrap().status(), 201);
}

/// Data Factory may set `Content-Encoding` on files that it compressed. The store must return the bytes as they are
/// stored.
#[tokio::test]
async fn a_content_encoding_is_ignored() {
    let account = shared_account();
    let fixture = StoreFixture::azure();
    fixture.put("plain", "").await;
    let options =
        BlobServiceClientOptions { client_options: account.client_options(), ..BlobServiceClientOptions::default() };
    let client = BlobServiceClient::new(account.blob_endpoint().clone(), None, Some(options)).unwrap();
    let options =
        BlobClientUploadOptions { blob_content_encoding: Some("gzip".into()), ..BlobClientUploadOptions::default() };
    client
        .blob_client(&fixture.container, "marked")
        .upload(RequestContent::from(Bytes::from_static(b"not gzip").to_vec()), Some(options))
        .await
        .unwrap();
    let blob = fixture.find("marked").await.unwrap();
    assert_eq!(fixture.range(&blob, 0..blob.size).await.unwrap(), "not gzip");
}

#[tokio::test]
async fn an_account_that_is_down_is_unavailable_and_the_error_shows_no_secret() {
    let azurite = Azurite::start();
    let fixture = StoreFixture::on(&azurite, &azurite.connection_string());
    let blob = fixture.put("part-0", "rows").await;
    azurite.stop();
    let error = fixture.store.find(&blob.path).await.unwrap_err();
    let StoreError::Unavailable { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("Connection refused"), "{source}");
    assert!(!format!("{error:?}").contains("sig"), "{error:?}");

    azurite.restart();
    assert_eq!(fixture.find("part-0").await, Some(blob));
}

#[tokio::test]
async fn a_silent_account_is_unavailable_within_half_a_minute() {
    let azurite = Azurite::start();
    let fixture = StoreFixture::on(&azurite, &azurite.connection_string());
    let blob = fixture.put("part-0", "rows").await;
    azurite.pause();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let error = fixture.store.find(&blob.path).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(31), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_read_resumes_once_the_account_answers_again() {
    let azurite = Azurite::start();
    let fixture = StoreFixture::on(&azurite, &azurite.connection_string());
    let blob = fixture.put("part-0", &"rows".repeat(1000)).await;
    let window = ReadWindow { range_bytes: 100.try_into().unwrap(), ..ReadWindow::default() };
    let mut bytes = read(Arc::clone(&fixture.store), blob, window);
    let mut text = bytes.try_next().await.unwrap().unwrap().to_vec();
    azurite.pause();
    let rest = tokio::spawn(async move { bytes.try_collect::<Vec<Bytes>>().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!rest.is_finished());
    azurite.resume();
    text.extend(rest.await.unwrap().unwrap().concat());
    assert_eq!(text, "rows".repeat(1000).as_bytes());
}
