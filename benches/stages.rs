//! How long each stage takes for rows like those of a drop. `cargo bench`, or `cargo bench -- rows` for one of them.

use std::{hint::black_box, io::Write, num::NonZeroUsize};

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compression, write::GzEncoder};
use uuid::Uuid;
use vivadrop::{
    batch::{BatchLimits, Batches},
    keys::AesKey,
    stage::{
        Damage,
        columns::METRICS,
        decode::{Decoder, RowRules},
        decrypt::{Cipher, Decrypt},
        gunzip::Gunzip,
        lines::{Block, LineBlocks},
        window::Window,
    },
};

const ROWS: usize = 8000;

/// What arrives from a store at once, about.
const CHUNK_BYTES: usize = 1 << 20;

/// How many figures a row has.
const FIGURES: usize = 20;

fn key() -> AesKey {
    AesKey { key: [7; 32], iv: [9; 16] }
}

fn in_counter_mode(bytes: &mut [u8]) {
    ctr::Ctr128BE::<Aes256>::new(&key().key.into(), &key().iv.into()).apply_keystream(bytes);
}

/// Rows with encrypted ids, and as many figures, half of them strings where `typed` is wanted.
fn text(has_strings: bool) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for _ in 0..ROWS {
        let mut id = Uuid::from_u128(random.u128(..)).to_string().into_bytes();
        in_counter_mode(&mut id);
        text += &format!("{{\"ObjectId\":\"{}\",\"MetricDate\":\"2026-08-16T00:00:00Z\"", BASE64_STANDARD.encode(id));
        for (at, name) in METRICS.iter().take(FIGURES).enumerate() {
            let quote = if has_strings && at % 2 == 0 { "\"" } else { "" };
            // Minutes as hours, as most of them are; some have all the digits of a double.
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

fn blocks(text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut window, mut lines) = (Window::new(), LineBlocks::new(1 << 20));
    let mut keep = |block| {
        blocks.push(block);
        Ok::<_, Damage>(())
    };
    window.write(text, &mut |window| lines.push(window, &mut keep)).expect("lines are short");
    blocks.extend(lines.finish(&mut window));
    blocks
}

fn stages(criterion: &mut Criterion) {
    let text = text(false);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text).and_then(|()| encoder.flush()).expect("memory takes it");
    let gzip = encoder.finish().expect("memory takes it");
    let mut sealed = gzip.clone();
    in_counter_mode(&mut sealed);
    let mut ignore = |piece: &[u8]| {
        black_box(piece);
        Ok::<_, Damage>(())
    };

    let mut group = criterion.benchmark_group("ciphertext");
    group.throughput(Throughput::Bytes(sealed.len() as u64));
    for cipher in Cipher::ALL {
        group.bench_function(format!("decrypt {cipher}"), |bench| {
            bench.iter(|| {
                let mut decrypt = Decrypt::new(cipher, &key());
                sealed.chunks(CHUNK_BYTES).try_for_each(|chunk| decrypt.push(chunk, &mut ignore))
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("gunzip", |bench| {
        bench.iter(|| {
            let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
            let mut skip = |window: &mut Window| {
                window.skip(window.text().len());
                Ok::<_, Damage>(())
            };
            gzip.chunks(CHUNK_BYTES).try_for_each(|chunk| gunzip.push(chunk, &mut window, &mut skip))?;
            gunzip.finish()
        });
    });
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
