use proptest::prelude::*;

use super::*;
use crate::{
    drop::FileVersion,
    message::{DropFacts, Message, around_rows},
    stage::decode::BadRowReason,
    store::ETag,
};

fn limits(rows: usize, bytes: usize) -> BatchLimits {
    BatchLimits { rows: NonZeroUsize::new(rows).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap(), message: None }
}

/// Rows from their texts; `!` is a bad one.
fn rows(texts: &[&str]) -> Rows {
    let mut rows = Rows::default();
    for text in texts {
        if *text == "!" {
            rows.bad.push((rows.count(), BadRowReason::NotAnObject));
        } else {
            rows.text.extend_from_slice(text.as_bytes());
            rows.text.push(b'\n');
            rows.ends.push(rows.text.len());
        }
    }
    rows
}

fn cut(limits: BatchLimits, blocks: &[Rows]) -> Vec<(u64, u64, String, Vec<u64>)> {
    let (mut batches, mut done) = (Batches::new(limits, 0, 0, limits.message), Vec::new());
    for rows in blocks {
        batches.push(rows, &mut done).unwrap();
    }
    done.extend(batches.finish());
    let bad = |batch: &Batch| batch.bad_rows.iter().map(|bad| bad.row).collect();
    done.iter()
        .map(|b| (b.first_row, b.end_row, String::from_utf8(b.text.as_ref().to_vec()).unwrap(), bad(b)))
        .collect()
}

#[test]
fn a_batch_ends_at_its_number_of_rows_bad_ones_counted() {
    let batches = cut(limits(2, 1000), &[rows(&["{}", "!", "{}"]), rows(&["!", "!"])]);
    assert_eq!(batches, [(0, 2, "{}".into(), vec![1]), (2, 4, "{}".into(), vec![3]), (4, 5, "".into(), vec![4])]);
}

#[test]
fn a_batch_ends_before_a_row_that_does_not_fit() {
    let batches = cut(limits(10, 5), &[rows(&["{}", "{}", "{}"])]);
    assert_eq!(batches, [(0, 2, "{},{}".into(), vec![]), (2, 3, "{}".into(), vec![])]);
}

#[test]
fn a_row_larger_than_a_batch_is_one_of_its_own() {
    let batches = cut(limits(10, 3), &[rows(&["{}", "{\"a\":1}", "{}"])]);
    assert_eq!(batches.iter().map(|b| (b.0, b.1)).collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn a_bad_row_has_no_text_that_could_be_too_much() {
    let batches = cut(limits(10, 3), &[rows(&["{\"a\":1}", "!", "{}"])]);
    assert_eq!(batches, [(0, 2, "{\"a\":1}".into(), vec![1]), (2, 3, "{}".into(), vec![])]);
}

#[test]
fn no_rows_are_no_batch() {
    assert!(cut(limits(1, 1), &[rows(&[])]).is_empty());
}

#[test]
fn the_lower_limit_of_a_message_counts() {
    let most = NonZeroUsize::new;
    let within = |recorded, sink| BatchLimits { message: recorded, ..limits(1, 1) }.within(sink).message;
    assert_eq!(within(None, None), None);
    assert_eq!(within(most(7), None), most(7));
    assert_eq!(within(None, most(9)), most(9));
    assert_eq!(within(most(7), most(9)), most(7));
    assert_eq!(within(most(7), most(5)), most(5));
}

fn facts() -> (DropFacts, FileVersion) {
    let drop = DropFacts {
        id: None,
        tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
        path: "datasets/Läufe \"1\"".into(),
        table: None,
        request_start_date: None,
        request_end_date: None,
        generation: 0,
    };
    (drop, FileVersion { name: "part-0.json.gz".into(), etag: ETag("1".into()) })
}

fn around() -> usize {
    let (drop, file) = facts();
    around_rows(&drop, &file, true)
}

/// The size of the message of rows `range`, which are `texts`.
fn message_bytes(range: std::ops::Range<u64>, texts: &[&str]) -> usize {
    let good: Vec<_> = texts.iter().filter(|text| **text != "!").copied().collect();
    let is_bad = |(row, text): (u64, &&str)| {
        (*text == "!").then(|| BadRow { row, reason: BadRowReason::NotAnObject.to_string() })
    };
    let bad: Vec<_> = (range.start..).zip(texts).filter_map(is_bad).collect();
    let (drop, file) = facts();
    Message::rows(&drop, &file, range, true, good.join(",").as_bytes().into(), &bad).body.len()
}

#[test]
fn a_row_that_fits_no_message_ends_the_file_behind_the_batch_before_it() {
    let row = "x".repeat(40);
    let most = message_bytes(12..13, &[&row]);
    let cut = |most: usize| {
        let limits = BatchLimits { message: NonZeroUsize::new(most), ..limits(10, 1000) };
        let (mut batches, mut done) = (Batches::new(limits, 11, around(), limits.message), Vec::new());
        let end = batches.push(&rows(&["{}", &row, "{}"]), &mut done);
        (end, done.iter().map(|batch| (batch.first_row, batch.end_row)).collect::<Vec<_>>())
    };
    assert_eq!(cut(most), (Ok(()), vec![(11, 12), (12, 13)]));
    let room = most - 1 - around();
    assert_eq!(cut(most - 1), (Err(RowTooLarge { row: 12, bytes: room + 1, room }), vec![(11, 12)]));
    // Not even an empty message would fit.
    assert_eq!(cut(1), (Err(RowTooLarge { row: 11, bytes: 6, room: 0 }), vec![]));
}

#[test]
fn a_row_larger_than_the_first_sink_took_is_one_of_its_own_where_another_takes_it() {
    let limits = BatchLimits { message: NonZeroUsize::new(message_bytes(0..3, &["{}"; 3])), ..limits(10, 1000) };
    let (mut batches, mut done) = (Batches::new(limits, 0, around(), None), Vec::new());
    batches.push(&rows(&["{}", "{}", &"x".repeat(40), "{}"]), &mut done).unwrap();
    assert_eq!(done.iter().map(|batch| (batch.first_row, batch.end_row)).collect::<Vec<_>>(), [(0, 2), (2, 3)]);
}

/// `texts` in blocks of as many rows as `cuts` say, over and over.
fn blocks(texts: &[&str], cuts: &[usize]) -> Vec<Rows> {
    let mut rest = texts;
    let mut blocks = Vec::new();
    for count in cuts.iter().cycle() {
        let (block, behind) = rest.split_at((*count).min(rest.len()));
        blocks.push(rows(block));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    blocks
}

proptest! {
    #[test]
    fn the_blocks_that_rows_arrive_in_change_nothing(
        texts in prop::collection::vec(prop_oneof![Just("!"), Just("{}"), Just(r#"{"a":1}"#)], 0..60),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        rows_limit in 1_usize..7,
        bytes_limit in 1_usize..30,
        more_room in prop::option::of(0_usize..120),
    ) {
        // Any of these rows fits.
        let message = more_room.and_then(|more| NonZeroUsize::new(message_bytes(90..91, &["!"]) - around() + more));
        let limits = BatchLimits { message, ..limits(rows_limit, bytes_limit) };
        let batches = cut(limits, &blocks(&texts, &cuts));
        prop_assert_eq!(&batches, &cut(limits, &[rows(&texts)]));
        prop_assert!(batches.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }

    #[test]
    fn no_message_is_too_large_and_none_could_have_had_its_next_row(
        texts in prop::collection::vec(prop_oneof![
            1 => Just("!".to_owned()),
            4 => (2_usize..50).prop_map(|length| "x".repeat(length)),
        ], 1..80),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        // Numbers get longer on the way.
        first_row in prop_oneof![0_u64..2, 5_u64..1002, Just(999_999_990)],
        more_room in 0_usize..400,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        // A bad row has more bytes than any of the others.
        let most = message_bytes(first_row + 80..first_row + 81, &["!"]) + more_room;
        let limits = BatchLimits { message: NonZeroUsize::new(most), ..limits(1000, 100_000) };
        let (mut batches, mut done) = (Batches::new(limits, first_row, around(), limits.message), Vec::new());
        for rows in blocks(&texts, &cuts) {
            batches.push(&rows, &mut done).unwrap();
        }
        done.extend(batches.finish());

        prop_assert_eq!(done.first().unwrap().first_row, first_row);
        prop_assert_eq!(done.last().unwrap().end_row, first_row + texts.len() as u64);
        for batch in done {
            let [first, end] = [batch.first_row, batch.end_row].map(|row| usize::try_from(row - first_row).unwrap());
            prop_assert!(message_bytes(batch.first_row..batch.end_row, &texts[first..end]) <= most);
            if end < texts.len() {
                prop_assert!(message_bytes(batch.first_row..batch.end_row + 1, &texts[first..=end]) > most);
            }
        }
    }
}
