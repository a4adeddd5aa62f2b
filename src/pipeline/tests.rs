use aes::cipher::{BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::*;
use crate::keys::AesKey;

const GUID: &str = "b7f16999-b812-4462-b854-bcea37e7597c";

/// An id, and its ciphertext in counter mode, which by chance decrypts to another text with CBC.
const AMBIGUOUS: (&str, &str) = ("id-0000002950110", "Ict98Wy90RZYp/cwHATMmA==");

/// The row with an id unlike the others. It is not in the first block.
const SPECIAL_ROW: usize = 900;

fn key() -> AesKey {
    AesKey { key: [3; 32], iv: [9; 16] }
}

fn ctr(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    ctr::Ctr128BE::<aes::Aes256>::new(&key().key.into(), &key().iv.into()).apply_keystream(&mut bytes);
    BASE64_STANDARD.encode(bytes)
}

fn cbc(text: &str) -> String {
    let cbc = cbc::Encryptor::<aes::Aes256>::new(&key().key.into(), &key().iv.into());
    BASE64_STANDARD.encode(cbc.encrypt_padded_vec::<Pkcs7>(text.as_bytes()))
}

/// A file of several blocks, whose rows have `id`, except for [`SPECIAL_ROW`].
fn file(id: &str, special: &str) -> String {
    let text = "x".repeat(900);
    let row = |number| {
        let id = if number == SPECIAL_ROW { special } else { id };
        format!("{{\"ObjectId\":\"{id}\",\"Text\":\"{text}\"}}\n")
    };
    (0..SPECIAL_ROW + 10).map(row).collect()
}

/// The ids of the rows of `file` from `first_row` on; `None` for a bad row. The file arrives in chunks of this length.
async fn ids(file: &str, first_row: usize, chunk: usize, decoders: usize) -> Vec<Option<String>> {
    let chunks: Vec<_> = file.as_bytes().chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let rules =
        FileRules { layout: LayoutRules { allow_plaintext: true, ..LayoutRules::default() }, ..Default::default() };
    let keys = Keys { file: None, column: Some(key().into()) };
    let bytes = stream::iter(chunks).boxed();
    let mut blocks = rows(bytes, first_row as u64, &keys, &rules, None, NonZeroUsize::new(decoders).unwrap(), u64::MAX);
    let mut ids = Vec::new();
    while let Some(block) = blocks.next().await {
        let block = block.unwrap();
        let mut good = std::str::from_utf8(&block.text).unwrap().lines();
        ids.extend((0..block.count()).map(|row| {
            let is_bad = block.bad.iter().any(|(bad, _)| bad == row);
            let row = (!is_bad).then(|| serde_json::from_str::<serde_json::Value>(good.next().unwrap()).unwrap());
            row.map(|row| row["ObjectId"].as_str().unwrap().to_owned())
        }));
    }
    ids
}

/// Checks the ids of a first run, and of runs that resume before and at [`SPECIAL_ROW`].
async fn assert_ids(file: &str, special: Option<&str>) {
    for (chunk, decoders) in [(1000, 1), (100_000, 4), (1 << 20, 2)] {
        for first_row in [0, SPECIAL_ROW - 1, SPECIAL_ROW] {
            let ids = ids(file, first_row, chunk, decoders).await;
            assert_eq!(ids.len(), SPECIAL_ROW + 10 - first_row);
            for (row, id) in (first_row..).zip(&ids) {
                let expected = if row == SPECIAL_ROW { special } else { Some(GUID) };
                assert_eq!(id.as_deref(), expected, "row {row} of a run from row {first_row}, {decoders} decoders");
            }
        }
    }
}

#[tokio::test]
async fn an_id_that_fits_both_ciphers_by_chance_arrives_as_itself_in_every_run() {
    let (id, ciphertext) = AMBIGUOUS;
    assert_eq!(ctr(id), ciphertext);
    assert_ids(&file(&ctr(GUID), ciphertext), Some(id)).await;
}

#[tokio::test]
async fn an_id_with_another_cipher_than_its_file_is_a_bad_row_in_every_run() {
    assert_ids(&file(&cbc(GUID), &ctr(GUID)), None).await;
    assert_ids(&file(&ctr(GUID), &cbc("a")), None).await;
}
