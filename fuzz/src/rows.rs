//! Rows: a line is one exactly when serde_json takes it for an object, and what is decoded is what the reference says, with
//! and without a key, typed or not, with all columns or some.

mod reference;

use std::sync::LazyLock;

use vivadrop::{
    keys::AesKey,
    stage::{
        decode::{Decoder, RowRules, Rows},
        decrypt::Cipher,
        lines::is_blank,
    },
};

use super::{bytes::in_pieces, lines::lines, stages};
use reference::{Member, Row};

/// How rows are decoded, and the decoder that does it.
struct Way {
    rules: RowRules,
    key: Option<AesKey>,
    decoder: Decoder,
}

static WAYS: LazyLock<Vec<Way>> = LazyLock::new(|| {
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
        column_cipher: Some(Cipher::Cbc),
        ..all()
    };
    let way = |rules: RowRules, key: Option<AesKey>| Way { decoder: Decoder::new(&rules, key.as_ref()), rules, key };
    vec![way(all(), Some(key())), way(all(), None), way(verbatim, Some(key())), way(some, Some(key()))]
});

/// The Column key of the seeds.
fn key() -> AesKey {
    AesKey { key: [3; 32], iv: [9; 16] }
}

/// Decodes a text of rows in every way.
pub fn check(text: &[u8]) {
    let lines: Vec<_> = lines(text).into_iter().filter(|line| !is_blank(line)).collect();
    for way in &*WAYS {
        let expected: Vec<_> = lines.iter().map(|line| reference::row(&way.rules, way.key.as_ref(), line)).collect();
        for pieces in in_pieces(text) {
            let blocks = stages::blocks(way.rules.max_row_bytes, &pieces);
            let mut expected = expected.iter();
            for block in &blocks {
                let rows = stages::rows(&way.decoder, block).expect("no line is too long");
                let count = rows.count() as usize;
                same_rows(way, &rows, expected.by_ref().take(count));
            }
            assert!(expected.next().is_none(), "rows are missing");
        }
    }
}

type Expected<'a> = Result<Row<'a>, vivadrop::stage::decode::BadRowReason>;

fn same_rows<'a, 'b: 'a>(way: &Way, rows: &Rows, expected: impl Iterator<Item = &'a Expected<'b>>) {
    let (mut bad, mut start) = (rows.bad.iter(), 0);
    let mut ends = rows.ends.iter();
    for (number, expected) in expected.enumerate() {
        match expected {
            Err(reason) => assert_eq!(bad.next(), Some(&(number as u64, reason.clone()))),
            Ok(expected) => {
                let &end = ends.next().expect("a row is missing");
                same_row(way, &rows.text[start..end], expected);
                start = end;
            }
        }
    }
    assert_eq!((bad.next(), ends.next(), start), (None, None, rows.text.len()), "more than there should be");
}

fn same_row(way: &Way, found: &[u8], expected: &Row<'_>) {
    let found = std::str::from_utf8(found).expect("a row is text");
    match &way.rules.columns {
        None => assert_eq!(found, format!("{}\n", expected.text())),
        Some(columns) => {
            let members = reference::members(found).expect("a row is an object");
            let kept = |member: &&Member<'_>| member.spelled().is_some_and(|name| columns.contains(&name));
            let expected = expected.members.iter().filter(kept);
            let expected: Vec<_> = expected.map(|member| (member.name, member.now.as_ref())).collect();
            let found: Vec<_> = members.iter().map(|member| (member.name, member.now.as_ref())).collect();
            assert_eq!(found, expected);
        }
    }
}
