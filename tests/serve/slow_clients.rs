//! Clients that send half a request, or send it very slowly.

use std::{fs, time::Duration};

use futures::future::join_all;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    host::Host,
    scene::{METADATA, Scene, assert_complete},
};

const HALF_HEADERS: &str = "POST /function HTTP/1.1\r\nHost: loc";
const HALF_BODY: &str = "POST /function HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"Data\":";

/// How long a request may take although other clients send nothing.
const PROMPT: Duration = Duration::from_secs(3);

/// How long the handler waits for the rest of a request, and some more time.
const UNTIL_CLOSED: Duration = Duration::from_secs(20);

/// Starts `count` requests and sends only `half` of each.
async fn send_half(host: &Host, half: &str, count: usize) -> Vec<TcpStream> {
    let open = (0..count).map(async |_| {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        // The handler may have closed the connection.
        _ = stream.write_all(half.as_bytes()).await;
        stream
    });
    join_all(open).await
}

/// Reads what the handler sends until it closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that the handler closes may be reset, because it has not read everything.
    _ = timeout(UNTIL_CLOSED, stream.read_to_end(&mut answer)).await.expect("the handler closes the connection");
    String::from_utf8(answer).unwrap()
}

/// Sets how many files the handler may open, as on a host with the usual limit.
fn limit_open_files(host: &Host, count: u64) {
    let pid = Pid::from_raw(host.process().try_into().unwrap());
    let limit = Rlimit { current: Some(count), maximum: Some(count) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// Raises the number of files that this test process may open.
fn raise_own_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Whether the handler answers `GET /` on a new connection.
async fn answers(host: &Host) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.is_ok_and(|_| status == *b"HTTP/1.1 200")
    };
    timeout(PROMPT, answer).await.unwrap_or(false)
}

/// How many files and connections the handler has open.
fn open_files(host: &Host) -> usize {
    fs::read_dir(format!("/proc/{}/fd", host.process())).unwrap().count()
}

#[tokio::test]
async fn half_requests_do_not_use_up_the_descriptors() {
    raise_own_limit();
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    limit_open_files(&host, 1024);
    let mut half_requests = send_half(&host, HALF_BODY, 600).await;
    half_requests.extend(send_half(&host, HALF_HEADERS, 500).await);
    // The handler needs a moment to accept them all.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(answers(&host).await);
    // An event finds its way, and storage, API and receiver can be reached.
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
    join_all(half_requests.iter_mut().map(read_to_end)).await;
    assert!(open_files(&host) < 100, "{} open files", open_files(&host));
}

#[tokio::test]
async fn the_handler_answers_while_300_bodies_are_half_sent() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let _half_requests = send_half(&host, HALF_BODY, 300).await;
    assert!(answers(&host).await);
}

#[tokio::test]
async fn a_client_that_stops_sending_is_disconnected() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let mut headers = send_half(&host, HALF_HEADERS, 1).await.remove(0);
    let mut body = send_half(&host, HALF_BODY, 1).await.remove(0);
    let (_, answer) = futures::join!(read_to_end(&mut headers), read_to_end(&mut body));
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""Outputs":{}"#) && answer.contains("10 s"), "{answer}");
}
