//! What only an Azure account does: signatures, outages, encodings.

use std::{sync::Arc, time::Duration};

use azure_core::http::RequestContent;
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::BlobClientUploadOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use secrecy::ExposeSecret;
use vivadrop::store::{ReadWindow, StoreError, azure::Account, read};

use crate::{
    store::Keeper,
    support::azurite::{self, Azurite},
};

fn shared_account() -> Account {
    Account::from_connection_string(&azurite::shared().connection_string()).unwrap()
}

fn with_signature(signature: &str) -> Keeper {
    let azurite = azurite::shared();
    let text = format!("BlobEndpoint={};SharedAccessSignature={signature}", azurite.blob_endpoint());
    Keeper::on(azurite, &text)
}

#[tokio::test]
async fn a_sas_opens_it_as_a_key_does() {
    let signature = shared_account().shared_access_signature().unwrap();
    let keeper = with_signature(signature.expose_secret());
    let blob = keeper.put("run/part-0", "rows").await;
    assert_eq!(keeper.range(&blob, 0..4).await.unwrap(), "rows");
    assert_eq!(keeper.names("run/").await, ["run/part-0"]);
}

#[tokio::test]
async fn a_wrong_signature_is_denied() {
    let signature = shared_account().shared_access_signature().unwrap();
    let keeper = with_signature(&signature.expose_secret().replace("sp=rwdlacup", "sp=rwdlacupx"));
    let error = keeper.store.find(&keeper.path("part-0")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
    let error = keeper.store.list(&keeper.container, "").await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn its_signature_opens_the_queue_service_too() {
    let account = shared_account();
    let signature = account.shared_access_signature().unwrap();
    let queue = format!("{}/{}", account.queue_endpoint().unwrap(), azurite::shared().unique_name("rows"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = http.put(format!("{queue}?{}", signature.expose_secret()));
    assert_eq!(made.send().await.unwrap().status(), 201);
    let sent = http
        .post(format!("{queue}/messages?messagettl=-1&{}", signature.expose_secret()))
        .body("<QueueMessage><MessageText>e30=</MessageText></QueueMessage>");
    assert_eq!(sent.send().await.unwrap().status(), 201);
}

/// Data Factory may mark what it compressed: the bytes of a drop are those that are stored.
#[tokio::test]
async fn a_content_encoding_is_left_alone() {
    let account = shared_account();
    let keeper = Keeper::azure();
    keeper.put("plain", "").await;
    let options =
        BlobServiceClientOptions { client_options: account.client_options(), ..BlobServiceClientOptions::default() };
    let client = BlobServiceClient::new(account.blob_endpoint().clone(), None, Some(options)).unwrap();
    let options =
        BlobClientUploadOptions { blob_content_encoding: Some("gzip".into()), ..BlobClientUploadOptions::default() };
    client
        .blob_client(&keeper.container, "marked")
        .upload(RequestContent::from(Bytes::from_static(b"no gzip at all").to_vec()), Some(options))
        .await
        .unwrap();
    let blob = keeper.find("marked").await.unwrap();
    assert_eq!(keeper.range(&blob, 0..blob.size).await.unwrap(), "no gzip at all");
}

#[tokio::test]
async fn one_that_is_down_is_unavailable_and_no_secret_is_told() {
    let azurite = Azurite::start();
    let keeper = Keeper::on(&azurite, &azurite.connection_string());
    let blob = keeper.put("part-0", "rows").await;
    azurite.stop();
    let error = keeper.store.find(&blob.path).await.unwrap_err();
    let StoreError::Unavailable { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("Connection refused"), "{source}");
    assert!(!format!("{error:?}").contains("sig"), "{error:?}");

    azurite.restart();
    assert_eq!(keeper.find("part-0").await, Some(blob));
}

#[tokio::test]
async fn one_that_stays_silent_is_unavailable_within_half_a_minute() {
    let azurite = Azurite::start();
    let keeper = Keeper::on(&azurite, &azurite.connection_string());
    let blob = keeper.put("part-0", "rows").await;
    azurite.pause();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = keeper.store.find(&blob.path).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_read_goes_on_when_it_answers_again() {
    let azurite = Azurite::start();
    let keeper = Keeper::on(&azurite, &azurite.connection_string());
    let blob = keeper.put("part-0", &"rows".repeat(1000)).await;
    let window = ReadWindow { range_bytes: 100.try_into().unwrap(), ..ReadWindow::default() };
    let mut bytes = read(Arc::clone(&keeper.store), blob, window);
    let mut text = bytes.try_next().await.unwrap().unwrap().to_vec();
    azurite.pause();
    let rest = tokio::spawn(async move { bytes.try_collect::<Vec<Bytes>>().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!rest.is_finished());
    azurite.resume();
    text.extend(rest.await.unwrap().unwrap().concat());
    assert_eq!(text, "rows".repeat(1000).as_bytes());
}
