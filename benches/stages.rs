//! Measures each stage with rows like those of a drop: `cargo bench --bench stages`, or one group of them with
//! `cargo bench --bench stages -- rows`.

use std::{hint::black_box, io::Write, num::NonZeroUsize};

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compression, write::GzEncoder};
use inflate::{Error, Gunzip, Window};
use uuid::Uuid;
use vivadrop::{
    batch::{BatchLimits, Batches},
    keys::AesKey,
    stage::{
        columns::METRICS,
        decode::{Decoder, RowRules},
        decrypt::{Cipher, Decrypt},
        lines::{Block, LineBlocks},
    },
};

const ROWS: usize = 8000;

/// How many bytes arrive from the store at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How many metrics a row has.
const METRICS_PER_ROW: usize = 20;

fn key() -> AesKey {
    AesKey { key: [7; 32], iv: [9; 16] }
}

/// Encrypts or decrypts in counter mode.
fn in_counter_mode(bytes: &mut [u8]) {
    ctr::Ctr128BE::<Aes256>::new(&key().key.into(), &key().iv.into()).apply_keystream(bytes);
}

/// The text of rows with an encrypted id and metrics; with `has_strings`, half of the metrics are strings.
fn text(has_strings: bool) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for _ in 0..ROWS {
        let mut id = Uuid::from_u128(random.u128(..)).to_string().into_bytes();
        in_counter_mode(&mut id);
        text += &format!("{{\"ObjectId\":\"{}\",\"MetricDate\":\"2026-08-16T00:00:00Z\"", BASE64_STANDARD.encode(id));
        for (at, name) in METRICS.iter().take(METRICS_PER_ROW).enumerate() {
            let quote = if has_strings && at % 2 == 0 { "\"" } else { "" };
            // Most numbers are minutes as hours; some have all the digits of a double.
            let hours =
                if random.u8(..3) == 0 { random.f64() * 20.0 } else { f64::from(random.u16(..1200) as f32 / 60.0) };
            text += &format!(",\"{name}\":{quote}{hours}{quote}");
        }
        text += &format!(
            ",\"PeopleHistoricalId\":\"{}-62135553600\",\"IsActive\":true}}\n",
            Uuid::from_u128(random.u128(..))
        );
    }
    text.into_bytes()
}

fn blocks(mut text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = LineBlocks::new(1 << 20);
    while lines.window().write(&mut text) > 0 {
        while let Some(block) = lines.next_block() {
            blocks.push(block);
        }
    }
    blocks.extend(lines.finish());
    blocks
}

/// Decrypts `ciphertext`, and returns the length of the plaintext.
fn decrypt(cipher: Cipher, ciphertext: &[u8]) -> usize {
    let mut decrypt = Decrypt::new(cipher, &key());
    let mut length = 0;
    for mut input in ciphertext.chunks(CHUNK_BYTES) {
        while !input.is_empty() {
            decrypt.push(&mut input);
            let piece = black_box(decrypt.plaintext()).len();
            decrypt.consume(piece);
            length += piece;
        }
    }
    length
}

/// Decompresses `gzip`, and returns the length of the text.
fn gunzip(gzip: &[u8]) -> Result<usize, Error> {
    let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
    let mut length = 0;
    for mut input in gzip.chunks(CHUNK_BYTES) {
        while gunzip.push(&mut input, &mut window)? > 0 {
            length += black_box(window.text()).len();
            window.consume(window.text().len());
        }
    }
    gunzip.finish()?;
    Ok(length)
}

fn stages(criterion: &mut Criterion) {
    let text = text(false);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text).expect("a vector accepts all bytes");
    let gzip = encoder.finish().expect("a vector accepts all bytes");
    let mut ciphertext = gzip.clone();
    in_counter_mode(&mut ciphertext);

    let mut group = criterion.benchmark_group("ciphertext");
    group.throughput(Throughput::Bytes(ciphertext.len() as u64));
    for cipher in Cipher::ALL {
        group.bench_function(format!("decrypt {cipher}"), |bench| bench.iter(|| decrypt(cipher, &ciphertext)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("gunzip", |bench| bench.iter(|| gunzip(&gzip)));
    group.bench_function("lines", |bench| bench.iter(|| blocks(&text)));
    group.finish();

    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    let decoder = Decoder::new(&RowRules::default(), Some(&key()));
    for (name, text) in [("numbers", text), ("strings", self::text(true))] {
        let blocks = blocks(&text);
        let decode = || blocks.iter().map(|block| decoder.rows(block)).collect::<Result<Vec<_>, _>>();
        group.bench_function(format!("decode {name}"), |bench| bench.iter(decode));
        if name == "numbers" {
            let rows = decode().expect("lines are short");
            let limit = |limit| NonZeroUsize::new(limit).expect("above 0");
            let limits = BatchLimits { rows: limit(500), bytes: limit(1 << 20), message: None };
            group.bench_function("batch", |bench| {
                bench.iter(|| {
                    let (mut batches, mut done) = (Batches::new(limits, 0, 0, None), Vec::new());
                    rows.iter().try_for_each(|rows| batches.push(rows, &mut done)).map(|()| done.len())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
