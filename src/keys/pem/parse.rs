//! Parses a private RSA key from PEM: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`), without a password.
//!
//! Accepts more than the strict grammar of RFC 7468: other blocks before the key, text around it, and lines of any
//! length.

use rsa::{RsaPrivateKey, pkcs1::DecodeRsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use zeroize::Zeroizing;

/// Smallest accepted modulus, in bits.
pub(super) const MIN_KEY_BITS: usize = 2048;

/// Line length of the strict grammar (RFC 7468, section 3).
const LINE_LEN: usize = 64;

/// Why a PEM file is not usable. Displayed after the file's name; never quotes the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPem {
    #[error("is not a PEM file: expected a block `-----BEGIN PRIVATE KEY-----` or `-----BEGIN RSA PRIVATE KEY-----`")]
    NoBlock,
    #[error("is encrypted with a password: expected a private key without a password, such as `openssl pkey` writes")]
    Encrypted,
    #[error("has a block `{0}`, expected a private key: `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1)")]
    WrongLabel(String),
    #[error("is damaged, or not an RSA key of 2048 to 4096 bits")]
    Damaged,
    #[error("is an RSA key of {0} bits, expected at least 2048")]
    TooSmall(usize),
}

/// Parses the first private key in `text`.
pub(super) fn private_key(text: &[u8]) -> Result<RsaPrivateKey, InvalidPem> {
    let text = std::str::from_utf8(text).map_err(|_| InvalidPem::NoBlock)?;
    let (label, body) = private_key_block(text).ok_or(InvalidPem::NoBlock)?;
    if label == "ENCRYPTED PRIVATE KEY" || body.contains("ENCRYPTED") {
        return Err(InvalidPem::Encrypted);
    }
    let key = match label {
        "PRIVATE KEY" => RsaPrivateKey::from_pkcs8_der(&der(label, body)?).ok(),
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der(label, body)?).ok(),
        _ => return Err(InvalidPem::WrongLabel(printable(label))),
    };
    let key = key.ok_or(InvalidPem::Damaged)?;
    match key.n().bits() {
        bits if bits < MIN_KEY_BITS => Err(InvalidPem::TooSmall(bits)),
        _ => Ok(key),
    }
}

/// Label and body of the first private key among the PEM blocks of `text`, or of its first block if there is no private
/// key.
fn private_key_block(text: &str) -> Option<(&str, &str)> {
    let blocks = || {
        text.split("-----BEGIN ").skip(1).filter_map(|block| {
            let (label, rest) = block.split_once("-----")?;
            let (body, _) = rest.split_once("-----END ")?;
            Some((label, body))
        })
    };
    blocks().find(|(label, _)| label.ends_with("PRIVATE KEY")).or_else(|| blocks().next())
}

/// The characters of `label` that a label may have, at most 40, because a file that is not PEM may have anything there.
fn printable(label: &str) -> String {
    label.chars().filter(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == ' ').take(40).collect()
}

/// Decodes a block to DER: wraps its lines as the strict grammar requires, and decodes them in constant time.
fn der(label: &str, body: &str) -> Result<Zeroizing<Vec<u8>>, InvalidPem> {
    // Large enough for every line end, so that it never grows: growing would leave copies of the key in memory.
    let mut pem = Zeroizing::new(String::with_capacity(2 * (label.len() + body.len()) + LINE_LEN));
    pem.extend(["-----BEGIN ", label, "-----"]);
    for (index, char) in body.chars().filter(|char| !char.is_ascii_whitespace()).enumerate() {
        if index % LINE_LEN == 0 {
            pem.push('\n');
        }
        pem.push(char);
    }
    pem.extend(["\n-----END ", label, "-----\n"]);

    let mut der = Zeroizing::new(vec![0; pem.len()]);
    let (_, decoded) = pem_rfc7468::decode(pem.as_bytes(), &mut der).map_err(|_| InvalidPem::Damaged)?;
    let length = decoded.len();
    der.truncate(length);
    Ok(der)
}
