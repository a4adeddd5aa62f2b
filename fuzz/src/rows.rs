//! Rows: a line is a row exactly if serde_json parses an object, and it is decoded as by the reference decoder: with
//! and without a key, typed or verbatim, with all columns or some. A join adds one member to each row, and checks of
//! the first block of a file change no row.

mod reference;

use std::sync::{Arc, LazyLock};

use vivadrop::{
    directory::{Directory, DirectoryBuilder, DirectoryRules},
    keys::AesKey,
    stage::{
        decode::{BadRowReason, ColumnChecks, Decoder, ExpectedColumn, RowRules, Rows},
        decrypt::Cipher,
        lines::{Block, is_blank},
    },
};

use super::{lines::lines, stages};
use reference::{Member, Row};

/// A decoder and its rules.
struct Case {
    rules: RowRules,
    key: Option<AesKey>,
    decoder: Decoder,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let all = RowRules::default;
    let verbatim = RowRules {
        typed: false,
        encrypted_columns: names(&["ObjectId", "Meetings"]),
        column_cipher: Some(Cipher::Ctr),
        ..all()
    };
    let some = RowRules {
        columns: Some(names(&["ObjectId", "IsActive", "Meetings", "a", ""])),
        records_values: true,
        checks: ColumnChecks { rejects_empty_rows: true, ..ColumnChecks::default() },
        column_cipher: Some(Cipher::Cbc),
        max_depth: 2,
        ..all()
    };
    let case = |rules: RowRules, key: Option<AesKey>| Case { decoder: Decoder::new(&rules, key.as_ref()), rules, key };
    vec![case(all(), Some(key())), case(all(), None), case(verbatim, Some(key())), case(some, Some(key()))]
});

/// The Column key that the seeds are encrypted with.
fn key() -> AesKey {
    AesKey { key: [3; 32], iv: [9; 16] }
}

/// Decodes the lines of a text with every decoder.
pub fn check(text: &[u8]) {
    // How lines arrive does not matter here: the check of lines cuts the text in all ways.
    let blocks = stages::blocks(RowRules::default().max_row_bytes, &[text]);
    let lines: Vec<_> = lines(text).into_iter().filter(|line| !is_blank(line)).collect();
    for case in &*CASES {
        let expected: Vec<_> = lines.iter().map(|line| reference::row(&case.rules, case.key.as_ref(), line)).collect();
        let mut expected = expected.iter();
        for block in &blocks {
            let rows = stages::rows(&case.decoder, block).expect("lines must not be too long");
            let count = rows.count() as usize;
            assert_same_rows(case, &rows, expected.by_ref().take(count));
        }
        assert!(expected.next().is_none(), "rows are missing");
    }
    check_file(&blocks);
    check_join(&blocks);
}

/// Checks the columns of a file and detects its column cipher, as for each new file.
fn check_file(blocks: &[Block]) {
    let expected = ["ObjectId", "IsActive"].map(|name| ExpectedColumn::new("ROW_COLUMNS", name)).to_vec();
    let checks = ColumnChecks { expected, ..ColumnChecks::default() };
    let rules = RowRules { checks, ..RowRules::default() };
    let Some(first) = blocks.first() else { return };
    let decoder = Decoder::new(&rules, Some(&key()));
    // Bad rows count for the second check of the columns only, so neither follows from the other.
    let _is_missing = decoder.check_first_columns(first, &rules).is_err();
    decoder.detect_column_cipher(first);
    for block in blocks {
        let rows = stages::rows(&decoder, block).expect("lines must not be too long");
        let undetected = stages::rows(&CASES[0].decoder, block).expect("lines must not be too long");
        assert_eq!(rows.count(), undetected.count(), "the cipher of a column makes no rows");
    }
    let _is_missing = decoder.check_columns().is_err();
}

static DIRECTORY: LazyLock<Arc<Directory>> = LazyLock::new(|| {
    let rules = DirectoryRules { columns: vec!["mail".into()], ..DirectoryRules::default() };
    let mut builder = DirectoryBuilder::new(&rules);
    let person = br#"{"id":"b7f16999-b812-4462-b854-bcea37e7597c","mail":"a@contoso.com"}"#;
    builder.push([&person[..]].into_iter()).expect("one person fits");
    Arc::new(builder.finish())
});

fn check_join(blocks: &[Block]) {
    let rules = RowRules { column_cipher: Some(Cipher::Ctr), ..RowRules::default() };
    let decoder = || Decoder::new(&rules, Some(&key()));
    let (plain, joining) = (decoder(), decoder().joined_to(Arc::clone(&DIRECTORY), &rules));
    for block in blocks {
        let [plain, joined] =
            [&plain, &joining].map(|decoder| stages::rows(decoder, block).expect("lines must not be too long"));
        assert_eq!(joined.bad, plain.bad);
        for (plain, joined) in plain.good().zip(joined.good()) {
            let [plain, mut joined] = [plain, joined].map(|row| {
                let row = std::str::from_utf8(row).expect("a row must be UTF-8");
                let members = reference::members(row).expect("a row must be an object");
                let members = members.iter().map(|member| (member.unescaped_name(), member.decoded.to_string()));
                members.collect::<Vec<_>>()
            });
            let (name, person) = joined.pop().expect("a joined row has a member");
            assert_eq!(name.as_deref(), Some("directory"));
            assert!(["null", r#"{"mail":"a@contoso.com"}"#].contains(&&*person));
            let own = plain.into_iter().filter(|(name, _)| name.as_deref() != Some("directory"));
            assert_eq!(joined, own.collect::<Vec<_>>());
        }
    }
}

type Expected<'a> = Result<Row<'a>, BadRowReason>;

fn assert_same_rows<'a, 'b: 'a>(case: &Case, rows: &Rows, expected: impl Iterator<Item = &'a Expected<'b>>) {
    let (mut bad, mut start) = (rows.bad.iter(), 0);
    let mut recorded = rows.recorded();
    let mut ends = rows.ends.iter();
    for (number, expected) in expected.enumerate() {
        match expected {
            Err(expected) => {
                let (row, found) = bad.next().expect("a bad row is missing");
                assert_eq!(row, number as u64);
                // The decoder stops at the first problem in a line, which may be before the invalid JSON.
                let is_earlier = matches!(found, BadRowReason::TooDeep(_) | BadRowReason::LongNumber);
                assert!(
                    found == expected || *expected == BadRowReason::NotAnObject && is_earlier,
                    "{found}: {expected}"
                );
            }
            Ok(expected) => {
                let &end = ends.next().expect("a row is missing");
                assert_same_row(case, &rows.text[start..end], expected);
                assert_same_values(case, recorded.next().expect("values are missing"), expected);
                start = end;
            }
        }
    }
    assert_eq!((bad.next(), ends.next(), start), (None, None, rows.text.len()), "there are more rows than expected");
}

fn assert_same_row(case: &Case, found: &[u8], expected: &Row<'_>) {
    let found = std::str::from_utf8(found).expect("a row must be UTF-8");
    match &case.rules.columns {
        None => assert_eq!(found, format!("{}\n", expected.text())),
        Some(columns) => {
            let members = reference::members(found).expect("a row must be an object");
            let kept = |member: &&Member<'_>| member.unescaped_name().is_some_and(|name| columns.contains(&name));
            let expected = expected.members.iter().filter(kept);
            let expected: Vec<_> = expected.map(|member| (member.name, member.decoded.as_ref())).collect();
            let found: Vec<_> = members.iter().map(|member| (member.name, member.decoded.as_ref())).collect();
            assert_eq!(found, expected);
        }
    }
}

fn assert_same_values<'r>(case: &Case, found: impl Iterator<Item = (usize, &'r [u8])>, expected: &Row<'_>) {
    let columns = case.rules.columns.as_ref().filter(|_| case.rules.records_values);
    let number = |member: &Member<'_>| columns?.iter().position(|name| Some(name) == member.unescaped_name().as_ref());
    let expected = expected.members.iter().filter_map(|member| Some((number(member)?, member.decoded.as_bytes())));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
