//! Rows of which only some columns are kept, and columns that a setting names and a file lacks.

use super::*;

#[test]
fn columns_that_are_not_configured_are_omitted() {
    let row = r#"{ "a": 1, "b" : [2,{"c":3}] ,"c":"4" }"#;
    for (columns, kept) in [
        (&["a", "b", "c"][..], row),
        (&["a"], r#"{ "a": 1 }"#),
        (&["b"], r#"{ "b" : [2,{"c":3}] }"#),
        (&["c"], r#"{"c":"4" }"#),
        (&["c", "a"], r#"{ "a": 1 ,"c":"4" }"#),
        (&["A"], "{ }"),
    ] {
        let rows = rows_with(&with_columns(columns), None, &format!("{row}\n{row}\n"));
        assert_eq!(String::from_utf8(rows.text.to_vec()).unwrap(), format!("{kept}\n{kept}\n"), "{columns:?}");
    }
}

#[test]
fn a_row_that_would_lose_all_its_columns_is_a_bad_row() {
    let mut rules = with_columns(&["a"]);
    rules.checks.rejects_empty_rows = true;
    let rows = rows_with(&rules, None, "{\"a\":1}\n{\"b\":1}\n{}\n{\"b\":01}\n");
    assert_eq!(rows.text[..], *b"{\"a\":1}\n{}\n");
    assert_eq!(bad(&rows), [(1, BadRowReason::NoColumns), (3, BadRowReason::NotAnObject)]);
}

/// The errors about the columns of a file with these rows: the one before its first row, and the one after its last
/// row.
fn missing_columns(row_columns: &[&str], encrypted: &[&str], text: &str) -> [Option<String>; 2] {
    let mut rules = with_columns(row_columns);
    let expected = row_columns.iter().map(|name| ExpectedColumn::new("ROW_COLUMNS", name));
    let encrypted = encrypted.iter().map(|name| ExpectedColumn::new("ENCRYPTED_COLUMNS", name));
    rules.checks.expected = expected.chain(encrypted).collect();
    let decoder = Decoder::new(&rules, None);
    let block = text.into();
    let first = decoder.check_first_columns(&block, &rules);
    decoder.rows(&block).unwrap();
    [first, decoder.check_columns()].map(|result| result.err().map(|missing| missing.to_string()))
}

#[test]
fn a_misspelled_column_is_reported_before_the_first_row() {
    let text = "{\"ObjectId\":\"x\",\"Emails sent\":1}\n";
    let one = |name: &str, setting: &str, nearest: &str| {
        Some(format!("lacks a column that a setting names: `{name}` in {setting}{nearest}"))
    };
    let respelled = one("objectid", "ROW_COLUMNS", " (the nearest is `ObjectId`)");
    assert_eq!(missing_columns(&["objectid", "Emails sent"], &[], text), [respelled.clone(), respelled]);
    let unknown = one("Wellbeing", "ROW_COLUMNS", "");
    assert_eq!(missing_columns(&["Wellbeing"], &[], text), [unknown.clone(), unknown.clone()], "no column is right");
    assert_eq!(missing_columns(&["ObjectId", "Wellbeing"], &[], text), [None, unknown], "it may be a rare column");
    let encrypted = one("OBJECTID", "ENCRYPTED_COLUMNS", " (the nearest is `ObjectId`)");
    assert_eq!(missing_columns(&["ObjectId"], &["OBJECTID"], text)[1], encrypted);
}

/// The errors about the columns of a file whose blocks are these texts, with columns that files may lack.
fn missing_optional_columns(row_columns: &[&str], encrypted: &[&str], blocks: &[&str]) -> [Option<String>; 2] {
    let mut rules = with_columns(row_columns);
    let expected = row_columns.iter().map(|name| ExpectedColumn::optional("ROW_COLUMNS", name));
    let encrypted = encrypted.iter().map(|name| ExpectedColumn::optional("ENCRYPTED_COLUMNS", name));
    rules.checks.expected = expected.chain(encrypted).collect();
    let decoder = Decoder::new(&rules, None);
    let first = decoder.check_first_columns(&blocks[0].into(), &rules);
    for &block in blocks {
        decoder.rows(&block.into()).unwrap();
    }
    [first, decoder.check_columns()].map(|result| result.err().map(|missing| missing.to_string()))
}

#[test]
fn an_optional_column_in_another_spelling_is_reported() {
    let text = "{\"ObjectId\":\"x\",\"Emails sent\":1}\n";
    let one = |name: &str, setting: &str| {
        Some(format!("lacks a column that a setting names: `{name}` in {setting} (the nearest is `ObjectId`)"))
    };
    let encrypted = one("objectid", "ENCRYPTED_COLUMNS");
    assert_eq!(missing_optional_columns(&["ObjectId"], &["objectid"], &[text]), [encrypted.clone(), encrypted.clone()]);
    let kept = one("Object id", "ROW_COLUMNS");
    assert_eq!(missing_optional_columns(&["Object id"], &[], &[text]), [kept.clone(), kept]);
    assert_eq!(missing_optional_columns(&["ObjectId", "Wellbeing"], &["Mail"], &[text]), [None, None]);
    let late = ["{\"Emails sent\":1}\n", text];
    assert_eq!(missing_optional_columns(&["Emails sent"], &["objectid"], &late), [None, encrypted]);
    // Microsoft's two schemas spell some metrics differently.
    let other_schema = "{\"ObjectId\":\"x\",\"Collaboration hours\":1}\n";
    let found = missing_optional_columns(&["ObjectId", "CollaborationHours"], &[], &[other_schema]);
    assert_eq!(found, [None, None]);
    let both = "{\"ObjectId\":\"x\"}\n{\"objectid\":\"x\"}\n";
    assert_eq!(missing_optional_columns(&["objectid"], &[], &[both])[1], None);
}

#[test]
fn a_rare_column_is_not_missing() {
    let text = "{\"a\":1}\n".repeat(100) + "{\"a\":1,\"rare\":2}\n";
    assert_eq!(missing_columns(&["a", "rare"], &["a"], &text), [None, None]);
    let with_both_spellings = missing_columns(&["EmailsSent", "Emails sent"], &[], "{\"Emails sent\":1}\n");
    assert_eq!(with_both_spellings[0], None, "both names are meant");
}

#[test]
fn a_file_may_have_any_number_of_columns() {
    let others: String = (0..600).map(|number| format!("\"A{number:03}\":1,")).collect();
    for others in [others.clone(), others.repeat(20)] {
        let text = format!("{{{others}\"ObjectId\":\"x\"}}\n");
        assert_eq!(missing_columns(&["ObjectId"], &[], &text), [None, None]);
    }
    let long = "a".repeat(200);
    assert_eq!(missing_columns(&[&long], &[], &format!("{{\"{long}\":1}}\n")), [None, None]);
}

#[test]
fn an_omitted_column_need_not_decrypt_but_must_be_json() {
    let rows = rows_with(&with_columns(&["a"]), Some(&key()), "{\"ObjectId\":\"no base64!\",\"a\":1}\n{\"b\":01}\n");
    assert_eq!(rows.text[..], *b"{\"a\":1}\n");
    assert_eq!(bad(&rows), [(1, BadRowReason::NotAnObject)]);
}
