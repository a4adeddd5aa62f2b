//! A receiver for benches/sinks.py that needs very little CPU: it reads each request into one buffer, discards it, and
//! answers 201, which the webhook sink and clients of Azure queues accept.
//!
//! `receiver [MILLISECONDS]` prints its port and answers each request after that delay. When its stdin ends, it prints
//! the numbers of connections, messages and bytes. Needs no crates: `rustc -O --edition 2024 receiver.rs`.

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static MESSAGES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn main() -> io::Result<()> {
    let latency = env::args().nth(1).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            CONNECTIONS.fetch_add(1, Relaxed);
            // The client notices and reports a broken connection.
            thread::spawn(move || answer_all(stream, latency));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!("{} {} {}", CONNECTIONS.load(Relaxed), MESSAGES.load(Relaxed), BYTES.load(Relaxed));
    Ok(())
}

/// Answers the requests of one connection, one after the other.
fn answer_all(mut stream: TcpStream, latency: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    loop {
        let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") else {
            match stream.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                count => filled += count,
            }
            continue;
        };
        let length = content_length(&buffer[..head]);
        // The client sends no request before the last one is answered, so everything after the head is this body.
        let mut left = length.saturating_sub(filled - head - 4);
        while left > 0 {
            let most = left.min(buffer.len());
            match stream.read(&mut buffer[..most])? {
                0 => return Ok(()),
                count => left -= count,
            }
        }
        filled = 0;
        if let Some(latency) = latency {
            thread::sleep(latency);
        }
        MESSAGES.fetch_add(1, Relaxed);
        BYTES.fetch_add(length as u64, Relaxed);
        stream.write_all(ANSWER)?;
    }
}

fn content_length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
