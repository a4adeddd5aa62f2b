//! Decompresses gzip of JSON lines, compared with flate2 (zlib-rs): `cargo bench -p inflate`.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::{Read, Write},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use inflate::{Error, Gunzip, Window};

/// How much input arrives at once.
const CHUNK_BYTES: usize = 1 << 20;

/// JSON lines with random numbers, as rows have them: about 8 MB.
fn json_lines() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for _ in 0..10_000 {
        write!(text, "{{\"ObjectId\":\"{:032x}\"", random.u128(..)).expect("a string accepts all text");
        for column in 0..20 {
            // Most numbers are minutes as hours; some have all the digits of a double.
            let hours =
                if random.u8(..3) == 0 { random.f64() * 20.0 } else { f64::from(random.u16(..1200) as f32 / 60.0) };
            write!(text, ",\"Collaboration hours {column}\":{hours}").expect("a string accepts all text");
        }
        text.push_str("}\n");
    }
    text
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("a vector accepts all bytes");
    encoder.finish().expect("a vector accepts all bytes")
}

/// Decompresses `gzip`, and returns the length of the text.
fn with_inflate(gzip: &[u8]) -> Result<usize, Error> {
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

/// Does the same with flate2.
fn with_flate2(gzip: &[u8]) -> std::io::Result<usize> {
    let mut decoder = MultiGzDecoder::new(gzip);
    let (mut buffer, mut length) = (vec![0; inflate::PIECE_BYTES], 0);
    loop {
        match decoder.read(&mut buffer)? {
            0 => return Ok(length),
            count => length += black_box(&buffer[..count]).len(),
        }
    }
}

fn gunzip(criterion: &mut Criterion) {
    let text = json_lines();
    let gzip = gzip(text.as_bytes());
    assert_eq!(with_inflate(&gzip), Ok(text.len()));
    assert_eq!(with_flate2(&gzip).expect("the stream is valid"), text.len());

    let mut group = criterion.benchmark_group("gunzip");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("inflate", |bench| bench.iter(|| with_inflate(&gzip)));
    group.bench_function("flate2 with zlib-rs", |bench| bench.iter(|| with_flate2(&gzip)));
    group.finish();
}

criterion_group!(benches, gunzip);
criterion_main!(benches);
