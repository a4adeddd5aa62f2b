use aes::cipher::{BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;

mod columns;
mod properties;
mod reference;

const GUID: &str = "b7f16999-b812-4462-b854-bcea37e7597c";

fn key() -> AesKey {
    AesKey { key: [3; 32], iv: [9; 16] }
}

fn encrypt(cipher: Cipher, text: &str) -> String {
    let (key, iv) = (key().key.into(), key().iv.into());
    BASE64_STANDARD.encode(match cipher {
        Cipher::Ctr => {
            let mut bytes = text.as_bytes().to_vec();
            ctr::Ctr128BE::<aes::Aes256>::new(&key, &iv).apply_keystream(&mut bytes);
            bytes
        }
        Cipher::Cbc => cbc::Encryptor::<aes::Aes256>::new(&key, &iv).encrypt_padded_vec::<Pkcs7>(text.as_bytes()),
    })
}

fn rows_with(rules: &RowRules, key: Option<&AesKey>, text: &str) -> Rows {
    Decoder::new(rules, key).rows(&text.into()).unwrap()
}

/// The bad rows, with their numbers.
fn bad(rows: &Rows) -> Vec<(u64, BadRowReason)> {
    rows.bad.iter().map(|(row, reason)| (row, reason.clone())).collect()
}

fn decoded(text: &str) -> String {
    String::from_utf8(rows_with(&RowRules::default(), Some(&key()), text).text.to_vec()).unwrap()
}

#[test]
fn a_row_keeps_its_order_spelling_and_digits() {
    let row = r#"{ "b" : [1, {"x":"\u00e9"}],"a":-0.10e+5,"big":12345678901234567890.10,"a":null,"t":{}}"#;
    assert_eq!(decoded(row), format!("{row}\n"));
}

#[test]
fn an_encrypted_column_is_decrypted_with_either_cipher() {
    for cipher in Cipher::ALL {
        let row = format!(r#"{{"a":1,"ObjectId":"{}","b":2}}"#, encrypt(cipher, GUID));
        assert_eq!(decoded(&row), format!("{{\"a\":1,\"ObjectId\":\"{GUID}\",\"b\":2}}\n"));
    }
}

#[test]
fn a_value_longer_than_the_cached_keystream_is_decrypted() {
    let text = "é".repeat(1000);
    let row = format!(r#"{{"ObjectId":"{}"}}"#, encrypt(Cipher::Ctr, &text));
    assert_eq!(decoded(&row), format!("{{\"ObjectId\":\"{text}\"}}\n"));
}

#[test]
fn json_escapes_in_names_and_values_are_undone() {
    let encrypted = encrypt(Cipher::Ctr, GUID).replace('+', "\\u002B").replace('/', "\\/");
    let row = format!(r#"{{"Object\u0049d":"{encrypted}","Collaboration\u0048ours":"\u0031.50"}}"#);
    assert_eq!(decoded(&row), format!("{{\"Object\\u0049d\":\"{GUID}\",\"Collaboration\\u0048ours\":1.50}}\n"));
}

#[test]
fn decrypted_text_is_escaped() {
    let row = format!(r#"{{"ObjectId":"{}"}}"#, encrypt(Cipher::Cbc, "a\"b\\c\n"));
    assert_eq!(decoded(&row), "{\"ObjectId\":\"a\\\"b\\\\c\\n\"}\n");
}

#[test]
fn half_a_surrogate_pair_in_an_encrypted_column_is_a_bad_row() {
    for text in ["\\ud800", "\\udc00AAAA"] {
        let row = format!(r#"{{"ObjectId":"{text}"}}"#);
        let with_key = rows_with(&RowRules::default(), Some(&key()), &row);
        assert_eq!(bad(&with_key), [(0, BadRowReason::NotBase64("ObjectId".into()))]);
        let sentence = format!("row 0 of `part-0` {}", bad(&with_key)[0].1);
        assert_eq!(sentence, "row 0 of `part-0` has a value of `ObjectId` (`ENCRYPTED_COLUMNS`) that is not Base64");
        assert_eq!(rows_with(&RowRules::default(), None, &row).text[..], *b"{\"ObjectId\":null}\n");
        let elsewhere = format!(r#"{{"Meetings":"{text}","Other":"{text}"}}"#);
        assert_eq!(decoded(&elsewhere), format!("{elsewhere}\n"));
    }
}

#[test]
fn only_json_whitespace_may_surround_a_row() {
    assert_eq!(decoded(" \t{\"a\": 1}\t \r\n"), "{\"a\": 1}\n");
    assert_eq!(rows_with(&RowRules::default(), None, "\u{c}{\"a\":1}\n{\"a\":1}\u{b}\n").bad.len(), 2);
}

#[test]
fn guids_and_values_that_are_not_strings_pass_unchanged() {
    for value in [format!("\"{GUID}\""), "null".into(), "7".into(), "[\"x\"]".into()] {
        let row = format!(r#"{{"ObjectId":{value}}}"#);
        assert_eq!(decoded(&row), format!("{row}\n"));
    }
}

#[test]
fn without_a_column_key_encrypted_values_become_null() {
    let row = format!(r#"{{"ObjectId":"{}","a":1}}"#, encrypt(Cipher::Ctr, GUID));
    let rows = rows_with(&RowRules::default(), None, &row);
    assert_eq!(rows.text[..], *b"{\"ObjectId\":null,\"a\":1}\n");
}

#[test]
fn a_configured_cipher_is_the_only_one_tried() {
    let rules = RowRules { column_cipher: Some(Cipher::Cbc), ..RowRules::default() };
    let row = format!(r#"{{"ObjectId":"{}"}}"#, encrypt(Cipher::Ctr, GUID));
    assert_eq!(bad(&rows_with(&rules, Some(&key()), &row)), [(0, BadRowReason::Undecipherable("ObjectId".into()))]);
}

#[test]
fn rows_after_too_many_bad_rows_are_not_collected() {
    let block: Block = "x\n{}\nx\n\n{}\nx\n{}\n".into();
    for (allowed, expected) in [(0, (0, 1)), (1, (1, 2)), (2, (2, 3)), (3, (3, 3))] {
        let rows = Decoder::new(&RowRules::default(), None).ending_after_bad_rows(allowed).rows(&block).unwrap();
        assert_eq!((rows.ends.len(), rows.bad.len()), expected, "{allowed}");
    }
}

/// A row that is nested `depth` levels deep; the row itself is the first level.
fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{{\"a\":{}1{}}}", open.repeat(depth - 1), close.repeat(depth - 1))
}

#[test]
fn a_row_that_is_nested_too_deep_for_receivers_is_a_bad_row() {
    let rules = |max_depth| RowRules { max_depth, ..RowRules::default() };
    for (max_depth, rules) in [(50, RowRules::default()), (2, rules(2)), (1, rules(1))] {
        for (open, close) in [("[", "]"), ("{\"b\": ", " }"), ("[ 0, ", "]")] {
            let row = nested(max_depth, open, close);
            assert_eq!(rows_with(&rules, None, &row).text[..], *format!("{row}\n").as_bytes());
            for depth in [max_depth + 1, 100_000] {
                let rows = rows_with(&rules, None, &nested(depth, open, close));
                assert_eq!(bad(&rows), [(0, BadRowReason::TooDeep(max_depth))], "{depth}");
            }
        }
    }
    let empty = rows_with(&rules(1), None, "{\"a\":[]}\n{\"a\":{}}\n{}");
    assert_eq!((empty.bad.len(), empty.ends.len()), (2, 1), "an empty list is a level as well");
    // Columns that are omitted are checked, too.
    let one_column = RowRules { columns: Some(vec!["b".into()]), ..rules(2) };
    let rows = rows_with(&one_column, None, "{\"a\":[[]],\"b\":1}\n{\"a\":[],\"b\":1}");
    assert_eq!((bad(&rows), &rows.text[..]), (vec![(0, BadRowReason::TooDeep(2))], &b"{\"b\":1}\n"[..]));
    assert_eq!(BadRowReason::TooDeep(50).to_string(), "is nested deeper than 50 levels (`MAX_ROW_DEPTH`)");
}

#[test]
fn a_row_with_a_number_that_is_too_long_for_receivers_is_a_bad_row() {
    let digits = "9".repeat(1_000);
    for good in [&digits, &format!("-{}", &digits[1..]), &format!("1.{}", &digits[2..]), &format!("1e{}", &digits[2..])]
    {
        for row in [format!("{{\"a\":{good}}}"), format!("{{\"a\":[1,{{\"b\":{good}}}]}}")] {
            assert_eq!(decoded(&row), format!("{row}\n"));
            let long = row.replace(good, &format!("{good}0"));
            let rows = rows_with(&RowRules::default(), Some(&key()), &long);
            assert_eq!(bad(&rows), [(0, BadRowReason::LongNumber)], "{long}");
        }
    }
    // A string of digits is text: it only becomes a number if receivers can read that number.
    let strings = format!("{{\"Meetings\":\"{digits}0\",\"CollaborationHours\":\"{digits}\"}}");
    assert_eq!(decoded(&strings), format!("{{\"Meetings\":\"{digits}0\",\"CollaborationHours\":{digits}}}\n"));
    assert_eq!(BadRowReason::LongNumber.to_string(), "has a number of more than 1000 characters");
}

/// An id, and its ciphertext in counter mode, which by chance decrypts to another text with CBC.
const AMBIGUOUS: (&str, &str) = ("id-0000002950110", "Ict98Wy90RZYp/cwHATMmA==");

/// One row for each value of `ObjectId`.
fn rows_of(ids: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    ids.into_iter().map(|id| format!("{{\"ObjectId\":\"{id}\"}}\n")).collect()
}

/// Decodes a file that is one block.
fn file_rows(text: &str) -> Rows {
    let (decoder, block) = (Decoder::new(&RowRules::default(), Some(&key())), text.into());
    decoder.detect_column_cipher(&block);
    decoder.rows(&block).unwrap()
}

#[test]
fn a_value_that_fits_both_ciphers_is_decrypted_like_the_other_values_of_its_file() {
    let (id, ciphertext) = AMBIGUOUS;
    let cbc_text = "\u{1}K\u{4}4\u{13}o\u{13}):D\u{d9}\u{4cb}R";
    assert_eq!((encrypt(Cipher::Ctr, id), encrypt(Cipher::Cbc, cbc_text)), (ciphertext.into(), ciphertext.into()));
    for (cipher, expected) in [(Cipher::Ctr, id), (Cipher::Cbc, cbc_text)] {
        let rows = file_rows(&rows_of([ciphertext, &encrypt(cipher, GUID), GUID]));
        let first: serde_json::Value = serde_json::from_slice(&rows.text[..rows.ends[0]]).unwrap();
        assert_eq!((first["ObjectId"].as_str(), rows.ends.len()), (Some(expected), 3), "{cipher}");
    }
}

#[test]
fn a_damaged_value_does_not_decide_the_cipher_of_its_file() {
    let cut = BASE64_STANDARD.encode([0xFF; 20]);
    for cipher in Cipher::ALL {
        for damaged in ["no base64!", &cut] {
            let mut ids = vec![encrypt(cipher, GUID); 10];
            ids[0] = damaged.into();
            let rows = file_rows(&rows_of(&ids));
            assert_eq!((rows.ends.len(), rows.bad.len()), (9, 1), "{cipher} {damaged}");
        }
    }
}

#[test]
fn an_empty_value_stays_empty_with_either_cipher() {
    for cipher in Cipher::ALL {
        let rows = file_rows(&rows_of(["", &encrypt(cipher, GUID)]));
        assert_eq!(rows.text[..], *rows_of(["", GUID]).as_bytes());
    }
}

#[test]
fn a_value_with_another_cipher_than_the_file_is_a_bad_row() {
    let rows = file_rows(&rows_of([encrypt(Cipher::Cbc, GUID), encrypt(Cipher::Ctr, GUID)]));
    assert_eq!(bad(&rows), [(1, BadRowReason::Undecipherable("ObjectId".into()))]);
}

#[test]
fn lines_that_are_not_rows_do_not_hide_the_cipher() {
    let text = format!("\n[1]\n{{\"ObjectId\":\"QUJD\"\n{}", rows_of([&encrypt(Cipher::Ctr, GUID), AMBIGUOUS.1]));
    let rows = file_rows(&text);
    assert!(rows.text.ends_with(rows_of([GUID, AMBIGUOUS.0]).as_bytes()));
}

#[test]
fn only_the_first_text_of_a_file_decides_its_cipher() {
    let unencrypted = rows_of(std::iter::repeat_n(GUID, crate::stage::lines::BLOCK_BYTES / 50));
    let text = unencrypted + &rows_of([encrypt(Cipher::Cbc, GUID), encrypt(Cipher::Ctr, GUID)]);
    assert!(file_rows(&text).bad.is_empty(), "each value is tried by itself");
}

#[test]
fn metrics_in_strings_become_numbers_digit_for_digit() {
    let row =
        r#"{"CollaborationHours":"126.00418432003623","Meetings":"7","Emails sent":"-1E+9","CostCenter":"00123"}"#;
    let typed = r#"{"CollaborationHours":126.00418432003623,"Meetings":7,"Emails sent":-1E+9,"CostCenter":"00123"}"#;
    assert_eq!(decoded(row), format!("{typed}\n"));
}

#[test]
fn a_string_that_is_not_a_json_number_stays_a_string() {
    for text in ["NaN", "", " 1", "1 ", "01", "1.", ".5", "+1", "1e", "0x1", "1,5", "∞", "--1"] {
        let row = format!(r#"{{"CollaborationHours":"{text}"}}"#);
        assert_eq!(decoded(&row), format!("{row}\n"));
    }
}

#[test]
fn is_active_becomes_a_boolean_in_upper_or_lower_case() {
    assert_eq!(decoded(r#"{"IsActive":"True","x":"true"}"#), "{\"IsActive\":true,\"x\":\"true\"}\n");
    assert_eq!(decoded(r#"{"IsActive":"FALSE"}"#), "{\"IsActive\":false}\n");
    assert_eq!(decoded(r#"{"IsActive":"yes"}"#), "{\"IsActive\":\"yes\"}\n");
}

#[test]
fn verbatim_rows_are_decrypted_and_not_converted() {
    let rules = RowRules { typed: false, ..RowRules::default() };
    let row = format!(r#"{{"ObjectId":"{}","Meetings":"7","IsActive":"true"}}"#, encrypt(Cipher::Ctr, GUID));
    let rows = rows_with(&rules, Some(&key()), &row);
    assert_eq!(
        rows.text[..],
        *format!("{{\"ObjectId\":\"{GUID}\",\"Meetings\":\"7\",\"IsActive\":\"true\"}}\n").as_bytes()
    );
}

#[test]
fn an_encrypted_column_may_have_the_name_of_a_metric() {
    let rules = RowRules { encrypted_columns: vec!["Meetings".into()], ..RowRules::default() };
    let row = format!(r#"{{"Meetings":"{}"}}"#, encrypt(Cipher::Ctr, "7"));
    assert_eq!(rows_with(&rules, Some(&key()), &row).text[..], *b"{\"Meetings\":\"7\"}\n");
}

fn with_columns(columns: &[&str]) -> RowRules {
    RowRules { columns: Some(columns.iter().map(ToString::to_string).collect()), ..RowRules::default() }
}

#[test]
fn recorded_values_are_those_of_the_decoded_row_whatever_is_omitted_or_converted() {
    let columns = ["CollaborationHours", "ObjectId", "a", "IsActive"];
    let rules = RowRules { records_values: true, ..with_columns(&columns) };
    let id = encrypt(Cipher::Ctr, GUID);
    let text = [
        format!(
            r#"{{"x":1, "ObjectId" : "{id}","CollaborationHours":"1.50","y":[2],"a": {{"b":[","]}} ,"IsActive":"True"}}"#
        ),
        r#"{"IsActive":false,"ObjectId":"not Base64","CollaborationHours":7}"#.into(),
        r#"{"y":3}"#.into(),
        format!(r#"{{"a":null,"a":"\u0041","\u0061":0,"z":9,"ObjectId":"{GUID}","CollaborationHours":"n/a"}}"#),
    ];
    let rows = rows_with(&rules, Some(&key()), &text.join("\n"));
    assert_eq!(rows.bad.len(), 1);
    let recorded = rows.recorded().map(|values| {
        let values = values.map(|(column, value)| format!("{}={}", columns[column], String::from_utf8_lossy(value)));
        values.collect::<Vec<_>>().join(" ")
    });
    let expected = [
        format!(r#"ObjectId="{GUID}" CollaborationHours=1.50 a={{"b":[","]}} IsActive=true"#),
        String::new(),
        format!(r#"a=null a="\u0041" a=0 ObjectId="{GUID}" CollaborationHours="n/a""#),
    ];
    assert_eq!(recorded.collect::<Vec<_>>(), expected);
}

#[test]
fn bad_rows_are_counted_and_blank_lines_are_not() {
    let rows = rows_with(&RowRules::default(), None, "\n{\"a\":1}\n \t\r\n[1]\n{\"a\":2}\r\n{\"a\":\n{} {}\n{\"b\":3}");
    assert_eq!(rows.text[..], *b"{\"a\":1}\n{\"a\":2}\n{\"b\":3}\n");
    let bad: Vec<_> = rows.bad.iter().map(|(row, _)| row).collect();
    assert_eq!(bad, [1, 3, 4]);
    assert_eq!(rows.count(), 6);
}

#[test]
fn a_line_that_is_not_utf8_is_a_bad_row() {
    let text = b"{\"a\":\"\xC3\xA9\"}\n{\"a\":\"\xFF\"}\n{}\n".to_vec();
    let rows = Decoder::new(&RowRules::default(), None).rows(&text.into()).unwrap();
    assert_eq!(rows.text[..], *"{\"a\":\"é\"}\n{}\n".as_bytes());
    assert_eq!(bad(&rows), [(1, BadRowReason::NotAnObject)]);
}

#[test]
fn an_encrypted_value_that_is_not_base64_or_not_text_is_a_bad_row() {
    let not_text = BASE64_STANDARD.encode(key().iv.iter().map(|byte| byte ^ 0xFF).collect::<Vec<_>>());
    let text = format!("{{\"ObjectId\":\"no base64!\"}}\n{{\"ObjectId\":\"{not_text}\"}}\n");
    let rows = rows_with(&RowRules::default(), Some(&key()), &text);
    assert_eq!(bad(&rows)[0].1, BadRowReason::NotBase64("ObjectId".into()));
    assert_eq!(bad(&rows)[1].1, BadRowReason::Undecipherable("ObjectId".into()));
    assert!(rows.text.is_empty());
}

#[test]
fn a_line_over_the_limit_stops_the_block() {
    let rules = RowRules { max_row_bytes: 9, ..RowRules::default() };
    let decoder = Decoder::new(&rules, None);
    assert!(decoder.rows(&b"\n{\"a\":123}\r\n".to_vec().into()).is_ok());
    assert_eq!(decoder.rows(&b"\n{\"a\":123}\n{\"a\":1234}\n".to_vec().into()), Err(RowTooLong { row: 1 }));
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let rules = RowRules { max_depth: usize::MAX, ..RowRules::default() };
    assert_eq!(rows_with(&rules, None, &deep).text.len(), deep.len() + 1);
    assert_eq!(rows_with(&rules, None, &"{\"a\":".repeat(100_000)).bad.len(), 1);
}
