use proptest::prelude::*;

use super::*;
use crate::{
    drop::FileVersion,
    message::{DropFacts, Message, envelope_bytes},
    stage::decode::BadRowReason,
    store::ETag,
};

fn limits(rows: usize, bytes: usize) -> BatchLimits {
    BatchLimits { rows: NonZeroUsize::new(rows).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap(), message: None }
}

/// A block with these rows; `!` is a bad row.
fn rows(texts: &[&str]) -> Rows {
    let mut rows = Rows::default();
    for text in texts {
        if *text == "!" {
            rows.bad.push(rows.count(), BadRowReason::NotAnObject);
        } else {
            rows.text.extend_from_slice(text.as_bytes());
            rows.text.push(b'\n');
            rows.ends.push(rows.text.len());
        }
    }
    rows
}

/// The first row, end row, text and bad rows of each batch.
fn cut(limits: BatchLimits, blocks: &[Rows]) -> Vec<(u64, u64, String, Vec<u64>)> {
    let (mut batches, mut complete) = (Batches::new(limits, 0, 0, limits.message), Vec::new());
    for rows in blocks {
        batches.push(rows, &mut complete).unwrap();
    }
    complete.extend(batches.finish());
    let bad = |batch: &Batch| batch.bad_rows.iter().map(|bad| bad.row).collect();
    complete
        .iter()
        .map(|b| (b.first_row, b.end_row, String::from_utf8(b.text.as_ref().to_vec()).unwrap(), bad(b)))
        .collect()
}

fn ranges(batches: &[Batch]) -> Vec<(u64, u64)> {
    batches.iter().map(|batch| (batch.first_row, batch.end_row)).collect()
}

#[test]
fn bad_rows_count_towards_the_row_limit() {
    let batches = cut(limits(2, 1000), &[rows(&["{}", "!", "{}"]), rows(&["!", "!"])]);
    assert_eq!(batches, [(0, 2, "{}".into(), vec![1]), (2, 4, "{}".into(), vec![3]), (4, 5, "".into(), vec![4])]);
}

#[test]
fn a_batch_ends_before_a_row_that_does_not_fit() {
    let batches = cut(limits(10, 5), &[rows(&["{}", "{}", "{}"])]);
    assert_eq!(batches, [(0, 2, "{},{}".into(), vec![]), (2, 3, "{}".into(), vec![])]);
}

#[test]
fn a_row_larger_than_the_limit_gets_a_batch_of_its_own() {
    let batches = cut(limits(10, 3), &[rows(&["{}", "{\"a\":1}", "{}"])]);
    assert_eq!(batches.iter().map(|b| (b.0, b.1)).collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn a_bad_row_does_not_count_towards_the_byte_limit() {
    let batches = cut(limits(10, 3), &[rows(&["{\"a\":1}", "!", "{}"])]);
    assert_eq!(batches, [(0, 2, "{\"a\":1}".into(), vec![1]), (2, 3, "{}".into(), vec![])]);
}

#[test]
fn a_file_without_rows_has_no_batch() {
    assert!(cut(limits(1, 1), &[rows(&[])]).is_empty());
}

#[test]
fn the_lower_message_limit_applies() {
    let bytes = NonZeroUsize::new;
    let within = |recorded, sink| BatchLimits { message: recorded, ..limits(1, 1) }.within(sink).message;
    assert_eq!(within(None, None), None);
    assert_eq!(within(bytes(7), None), bytes(7));
    assert_eq!(within(None, bytes(9)), bytes(9));
    assert_eq!(within(bytes(7), bytes(9)), bytes(7));
    assert_eq!(within(bytes(7), bytes(5)), bytes(5));
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

fn envelope() -> usize {
    let (drop, file) = facts();
    envelope_bytes(&drop, &file, true, None)
}

/// The size of the real message with the rows `range`, whose texts are `texts`.
fn message_bytes(range: std::ops::Range<u64>, texts: &[&str]) -> usize {
    let good: Vec<_> = texts.iter().filter(|text| **text != "!").copied().collect();
    let is_bad = |(row, text): (u64, &&str)| {
        (*text == "!").then(|| BadRow { row, reason: BadRowReason::NotAnObject.to_string() })
    };
    let bad: Vec<_> = (range.start..).zip(texts).filter_map(is_bad).collect();
    let (drop, file) = facts();
    Message::rows(&drop, &file, range, true, None, good.join(",").as_bytes().into(), &bad).body.len()
}

#[test]
fn a_row_that_fits_no_message_ends_the_file_after_the_batch_before_it() {
    let row = "x".repeat(40);
    let fitting = message_bytes(12..13, &[&row]);
    let cut = |max: usize| {
        let limits = BatchLimits { message: NonZeroUsize::new(max), ..limits(10, 1000) };
        let (mut batches, mut complete) = (Batches::new(limits, 11, envelope(), limits.message), Vec::new());
        let result = batches.push(&rows(&["{}", &row, "{}"]), &mut complete);
        (result, ranges(&complete))
    };
    assert_eq!(cut(fitting), (Ok(()), vec![(11, 12), (12, 13)]));
    let room = fitting - 1 - envelope();
    let too_large = BatchError::RowTooLarge { row: 12, bytes: room + 1, room };
    assert_eq!(cut(fitting - 1), (Err(too_large), vec![(11, 12)]));
    // Not even a message without rows would fit.
    assert_eq!(cut(1), (Err(BatchError::RowTooLarge { row: 11, bytes: 6, room: 0 }), vec![]));
}

#[test]
fn a_row_too_large_for_the_first_sink_gets_a_batch_of_its_own_for_a_sink_with_room() {
    let limits = BatchLimits { message: NonZeroUsize::new(message_bytes(0..3, &["{}"; 3])), ..limits(10, 1000) };
    let (mut batches, mut complete) = (Batches::new(limits, 0, envelope(), None), Vec::new());
    batches.push(&rows(&["{}", "{}", &"x".repeat(40), "{}"]), &mut complete).unwrap();
    assert_eq!(ranges(&complete), [(0, 2), (2, 3)]);
}

fn too_many(row: u64, allowed: u64) -> BatchError {
    BatchError::TooManyBadRows { row, reason: BadRowReason::NotAnObject.to_string(), allowed }
}

#[test]
fn only_complete_batches_are_delivered_before_the_first_bad_row_beyond_the_limit() {
    for (max_rows, expected) in [(2, vec![(0, 2), (2, 4)]), (3, vec![(0, 3)]), (4, vec![(0, 4)]), (5, vec![])] {
        let (mut batches, mut complete) = (Batches::new(limits(max_rows, 1000), 0, 0, None), Vec::new());
        batches = batches.allow_bad_rows(2, 1);
        let result = batches.push(&rows(&["{}", "!", "{}", "{}", "!", "{}", "!"]), &mut complete);
        assert_eq!((result, ranges(&complete)), (Err(too_many(4, 2)), expected), "{max_rows}");
    }
}

#[test]
fn a_batch_without_room_for_the_first_bad_row_beyond_the_limit_is_complete() {
    let limits = BatchLimits { message: NonZeroUsize::new(message_bytes(0..1, &["!"])), ..limits(10, 1000) };
    let (mut batches, mut complete) = (Batches::new(limits, 0, envelope(), limits.message), Vec::new());
    batches = batches.allow_bad_rows(0, 0);
    assert_eq!(batches.push(&rows(&["{}", "!"]), &mut complete), Err(too_many(1, 0)));
    assert_eq!(ranges(&complete), [(0, 1)]);
}

#[test]
fn bad_rows_from_before_the_checkpoint_count_even_if_fewer_are_allowed_now() {
    let mut batches = Batches::new(limits(10, 1000), 7, 0, None).allow_bad_rows(1, 3);
    assert_eq!(batches.push(&rows(&["{}"]), &mut Vec::new()), Ok(()));
    assert_eq!(batches.push(&rows(&["!"]), &mut Vec::new()), Err(too_many(8, 1)));
}

#[test]
fn the_error_of_the_earlier_row_is_reported() {
    let large = "x".repeat(1000);
    let push = |texts: &[&str]| {
        let max = NonZeroUsize::new(message_bytes(0..1, &["!"]));
        let mut batches = Batches::new(limits(10, 1000), 0, envelope(), max).allow_bad_rows(0, 0);
        batches.push(&rows(texts), &mut Vec::new())
    };
    assert!(matches!(push(&["{}", &large, "!"]), Err(BatchError::RowTooLarge { row: 1, .. })));
    assert_eq!(push(&["{}", "!", &large]), Err(too_many(1, 0)));
}

/// Splits `texts` into blocks whose numbers of rows are `cuts`, repeated as needed.
fn blocks(texts: &[&str], cuts: &[usize]) -> Vec<Rows> {
    let mut rest = texts;
    let mut blocks = Vec::new();
    for count in cuts.iter().cycle() {
        let (block, remaining) = rest.split_at((*count).min(rest.len()));
        blocks.push(rows(block));
        rest = remaining;
        if rest.is_empty() {
            break;
        }
    }
    blocks
}

proptest! {
    #[test]
    fn batches_do_not_depend_on_the_blocks(
        texts in prop::collection::vec(prop_oneof![Just("!"), Just("{}"), Just(r#"{"a":1}"#)], 0..60),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        rows_limit in 1_usize..7,
        bytes_limit in 1_usize..30,
        more_room in prop::option::of(0_usize..120),
    ) {
        // Room for any of these rows alone.
        let message = more_room.and_then(|more| NonZeroUsize::new(message_bytes(90..91, &["!"]) - envelope() + more));
        let limits = BatchLimits { message, ..limits(rows_limit, bytes_limit) };
        let batches = cut(limits, &blocks(&texts, &cuts));
        prop_assert_eq!(&batches, &cut(limits, &[rows(&texts)]));
        prop_assert!(batches.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }

    #[test]
    fn messages_are_as_large_as_the_limit_allows(
        texts in prop::collection::vec(prop_oneof![
            1 => Just("!".to_owned()),
            4 => (2_usize..50).prop_map(|length| "x".repeat(length)),
        ], 1..80),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        // The row numbers gain digits within the file.
        first_row in prop_oneof![0_u64..2, 5_u64..1002, Just(999_999_990)],
        more_room in 0_usize..400,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        // A bad row takes more bytes than any good row here.
        let max = message_bytes(first_row + 80..first_row + 81, &["!"]) + more_room;
        let limits = BatchLimits { message: NonZeroUsize::new(max), ..limits(1000, 100_000) };
        let (mut batches, mut complete) = (Batches::new(limits, first_row, envelope(), limits.message), Vec::new());
        for rows in blocks(&texts, &cuts) {
            batches.push(&rows, &mut complete).unwrap();
        }
        complete.extend(batches.finish());

        prop_assert_eq!(complete.first().unwrap().first_row, first_row);
        prop_assert_eq!(complete.last().unwrap().end_row, first_row + texts.len() as u64);
        for batch in complete {
            let [first, end] = [batch.first_row, batch.end_row].map(|row| usize::try_from(row - first_row).unwrap());
            prop_assert!(message_bytes(batch.first_row..batch.end_row, &texts[first..end]) <= max);
            if end < texts.len() {
                prop_assert!(message_bytes(batch.first_row..batch.end_row + 1, &texts[first..=end]) > max);
            }
        }
    }
}
