//! Searches the memory of a running process for secrets, through `/proc/PID/mem`.

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::FileExt,
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem;
use rsa::{BigUint, RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PrivateKeyParts};

/// The size of one read, in bytes: far longer than any needle.
const CHUNK: usize = 1 << 20;

/// The byte sequences to search for: secrets in every encoding in which memory might contain them.
#[derive(Default)]
pub(crate) struct Needles(Vec<Needle>);

struct Needle {
    name: String,
    bytes: Vec<u8>,
}

impl Needles {
    /// Adds the first and the last 16 bytes of a secret, so that a partly overwritten copy is found as well.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        for (part, bytes) in [("start", &bytes[..16]), ("end", &bytes[bytes.len() - 16..])] {
            self.0.push(Needle { name: format!("the {part} of {name}"), bytes: bytes.to_vec() });
        }
    }

    /// Adds a text in UTF-8 and in UTF-16.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.add(&format!("{name} in UTF-16"), &wide);
    }

    /// Adds an AES key in binary, in Base64 and in hexadecimal. The expanded key schedule contains the binary form.
    pub(crate) fn add_key(&mut self, name: &str, key: &[u8]) {
        self.add(name, key);
        let base64 = BASE64_STANDARD_NO_PAD.encode(key);
        self.add_text(&format!("{name} in Base64"), &base64);
        self.add_text(&format!("{name} in Base64url"), &base64.replace('+', "-").replace('/', "_"));
        let hex = key.iter().fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
        self.add_text(&format!("{name} in hexadecimal"), &hex);
        self.add_text(&format!("{name} in hexadecimal"), &hex.to_uppercase());
    }

    /// Adds a private key: its PEM lines, and its secret numbers in both byte orders. The first six lines of the PEM
    /// encode the public modulus, so they are left out.
    pub(crate) fn add_private_key(&mut self, pem: &str) {
        for line in pem.lines().filter(|line| line.len() >= 32 && !line.starts_with('-')).skip(6) {
            self.add_text("a line of the private key", line);
        }
        let key = RsaPrivateKey::from_pkcs8_pem(pem).unwrap();
        self.add_number("the private exponent", key.d());
        for prime in key.primes() {
            self.add_number("a prime", prime);
        }
        self.add_number("dp", key.dp().unwrap());
        self.add_number("dq", key.dq().unwrap());
    }

    /// The names of the needles that `bytes` contain.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let found = self.0.iter().filter(|needle| memmem::find(bytes, &needle.bytes).is_some());
        found.map(|needle| needle.name.as_str()).collect()
    }

    fn add_number(&mut self, name: &str, number: &BigUint) {
        self.add(name, &number.to_bytes_be());
        self.add(&format!("{name}, little-endian"), &number.to_bytes_le());
    }
}

/// The soft and hard limit on the size of a core dump of `process`, as the kernel prints them.
pub(crate) fn core_limit(process: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_ascii_whitespace().take(2).map(ToOwned::to_owned).collect()
}

/// Whether a program that `process` starts cannot gain privileges, such as by its set-user-ID bit.
pub(crate) fn no_new_privileges(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}

/// The needles that the memory of `process` contains, with their addresses.
///
/// Panics if the memory cannot be read: a test that reads nothing must not pass.
pub(crate) fn found_in(process: u32, needles: &Needles) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("this test needs /proc/PID/maps");
    let memory = File::open(format!("/proc/{process}/mem")).expect(
        "this test reads the memory of its child process (/proc/PID/mem), which ptrace restrictions may forbid: run it as root",
    );
    let mut found = Vec::new();
    let mut read = 0;
    for region in maps.lines().filter_map(Region::parse) {
        let mut at = region.start;
        while at < region.end {
            let mut chunk = vec![0; CHUNK.min(usize::try_from(region.end - at).unwrap())];
            // The region may have been unmapped, or be unreadable (`[vvar]`).
            let Ok(length) = memory.read_at(&mut chunk, at) else { break };
            if length == 0 {
                break;
            }
            read += length;
            for needle in &needles.0 {
                for place in memmem::find_iter(&chunk[..length], &needle.bytes) {
                    found.push(format!("{} at {:#x} in {}", needle.name, at + place as u64, region.name));
                }
            }
            let is_last = at + length as u64 >= region.end;
            at += if is_last { length } else { length.saturating_sub(256).max(1) } as u64;
        }
    }
    assert!(read > 4 << 20, "only {read} bytes of the process could be read: run this test as root");
    found
}

/// A line of `/proc/PID/maps`.
struct Region<'a> {
    start: u64,
    end: u64,
    name: &'a str,
}

impl<'a> Region<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_readable = words.next()?.starts_with('r');
        let name = words.nth(3).unwrap_or("anonymous memory");
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        is_readable.then_some(Self { start: number(start)?, end: number(end)?, name })
    }
}
