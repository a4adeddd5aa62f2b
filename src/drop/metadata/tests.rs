//! Parsing of job metadata: observed spellings, and malformed input.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parsed(text: &str) -> JobMetadata {
    JobMetadata::parse(text.as_bytes()).unwrap()
}

fn rejection(text: &str) -> String {
    let error = JobMetadata::parse(text.as_bytes()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Metadata));
    error.to_string()
}

#[test]
fn the_documented_metadata_is_parsed() {
    let metadata = parsed(
        r#"{"CopyActivityId": "3667110a-dbcd-4e2e-a5c7-9a7839964a4d", "JobSubmissionTime": "2026-11-16T01:00:04Z",
            "JobCompletionTime": "2026-11-16T01:42:31Z", "RequestStartDate": "2026-08-16T00:00:00Z",
            "RequestEndDate": "2026-11-15T00:00:00Z", "ColumnsRequested": "ObjectId,MetricDate",
            "NumberOfRowsExtracted": 7, "DataFactoryName": "adf-egress-sample",
            "TenantId": "0CF29E4E-641d-4478-8b66-a40ccb72faf9", "Errors": ""}"#,
    );
    let expected = JobMetadata {
        copy_activity_id: Some("3667110a-dbcd-4e2e-a5c7-9a7839964a4d".into()),
        tenant_id: "0cf29e4e-641d-4478-8b66-a40ccb72faf9".parse().ok(),
        rows_extracted: Some(7),
        request_start_date: Some("2026-08-16T00:00:00Z".into()),
        request_end_date: Some("2026-11-15T00:00:00Z".into()),
        job_submission_time: Some("2026-11-16T01:00:04Z".into()),
        job_completion_time: Some("2026-11-16T01:42:31Z".into()),
        columns_requested: Some("ObjectId,MetricDate".into()),
        data_factory_name: Some("adf-egress-sample".into()),
        ..JobMetadata::default()
    };
    assert_eq!(metadata, expected);
}

#[test]
fn members_of_later_versions_are_parsed_or_kept() {
    let metadata = parsed(
        r#"{"TableName": "PersonReport_v1", "PublicKeyVersion": 2, "OfficeGeo": "EUR",
            "DecryptionKeyDetails": [{"DecryptionKeyType": "File"}]}"#,
    );
    assert_eq!(metadata.table_name.as_deref(), Some("PersonReport_v1"));
    assert_eq!(metadata.public_key_version.as_deref(), Some("2"));
    assert_eq!(
        metadata.decryption_key_details,
        serde_json::from_value(json!([{"DecryptionKeyType": "File"}])).unwrap()
    );
}

#[test]
fn names_match_in_any_case_and_the_first_of_two_counts() {
    let metadata = parsed(r#"{"tableNAME": "a", "TableName": "b", "tablename": "c", "x": 1, "x": 2}"#);
    assert_eq!(metadata.table_name.as_deref(), Some("a"));
}

#[test]
fn a_byte_order_mark_line_breaks_and_further_objects_are_accepted() {
    let text = "\u{feff}\r\n{\r\n  \"TableName\": \"a\"\r\n}\r\n{\"TableName\": \"b\"}\nthe rest is ignored";
    assert_eq!(parsed(text).table_name.as_deref(), Some("a"));
}

#[test]
fn the_row_count_may_be_a_number_or_a_number_in_a_string() {
    for (text, rows) in [("6", 6), ("6.0", 6), ("6e3", 6000), ("\"6\"", 6), ("\" 6 \"", 6), ("\"6.0\"", 6), ("0", 0)] {
        let metadata = parsed(&format!(r#"{{"NumberOfRowsExtracted": {text}}}"#));
        assert_eq!(metadata.rows_extracted, Some(rows), "{text}");
    }
    assert_eq!(parsed(r#"{"NumberOfRowsExtracted": null}"#).rows_extracted, None);
    assert_eq!(parsed("{}").rows_extracted, None);
}

#[test]
fn an_invalid_row_count_is_rejected_by_name() {
    for text in ["-1", "\"-1\"", "6.5", "\"many\"", "\"\"", "true", "[6]", "1e300", "\"NaN\""] {
        let error = rejection(&format!(r#"{{"NumberOfRowsExtracted": {text}}}"#));
        assert!(error.starts_with("`NumberOfRowsExtracted` of the job metadata is not usable"), "{error}");
        assert!(!error.contains("many"), "{error}");
    }
}

#[test]
fn blank_errors_are_ignored() {
    for blank in ["null", r#""""#, r#""  \r\n ""#, r#""\u0000\u007f""#, "[]"] {
        assert_eq!(parsed(&format!(r#"{{"Errors": {blank}}}"#)).errors, None, "{blank}");
    }
}

#[test]
fn errors_of_any_type_are_shown_in_one_line() {
    for (errors, shown) in [
        (r#""no\nconsent""#, "no consent"),
        (r#"["one", "two"]"#, "one; two"),
        (r#"[{"Code": 7}]"#, r#"{"Code":7}"#),
        (r#"[""]"#, r#"[""]"#),
        (r#"{"Code": 7}"#, r#"{"Code":7}"#),
        ("false", "false"),
    ] {
        assert_eq!(parsed(&format!(r#"{{"errors": {errors}}}"#)).errors.as_deref(), Some(shown));
    }
    let long = parsed(&json!({"Errors": "x".repeat(9_000)}).to_string()).errors.unwrap();
    assert_eq!(long.chars().count(), 1_000);
}

#[test]
fn an_id_that_is_not_a_guid_is_rejected_and_a_blank_one_is_absent() {
    let error = rejection(r#"{"TenantId": "contoso"}"#);
    assert_eq!(error, "`TenantId` of the job metadata is not usable: expected a GUID, found another string");
    assert!(rejection(r#"{"CopyActivityId": 7}"#).contains("`CopyActivityId`"));
    assert!(rejection(r#"{"CopyActivityId": "3667110adbcd4e2ea5c79a7839964a4d"}"#).contains("`CopyActivityId`"));
    assert_eq!(parsed(r#"{"TenantId": " ", "CopyActivityId": null}"#), JobMetadata::default());
}

#[test]
fn a_text_too_long_for_messages_is_rejected() {
    let text = json!({"TableName": "x".repeat(1_001)}).to_string();
    assert!(rejection(&text).contains("at most 1,000 characters"));
}

#[test]
fn invalid_json_is_rejected_with_its_position_and_without_its_content() {
    for text in ["", "  ", "[{}]", "\"secret\"", "crc secret"] {
        assert_eq!(rejection(text), "the job metadata does not begin with a JSON object");
    }
    assert_eq!(rejection("{\"a\": 1,\n \"b\": secret}"), "the job metadata is not valid JSON: line 2, column 7");
    assert!(rejection("{\"Errors\": \"cut").contains("line 1"));
    let not_utf8 = JobMetadata::parse(b"{\"TableName\": \"\xff\"}");
    assert!(matches!(not_utf8, Err(MetadataError::InvalidJson { line: 1, .. })), "{not_utf8:?}");
}

#[test]
fn key_details_and_unknown_values_are_not_printed() {
    let metadata = parsed(r#"{"TableName": "t", "DecryptionKeyDetails": {"value": "c2VjcmV0"}, "Other": "c2VjcmV0"}"#);
    let printed = format!("{metadata:?}");
    assert!(printed.contains("\"t\"") && !printed.contains("c2Vj"), "{printed}");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected_without_a_panic(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let mut text = br#"{"TenantId":"0cf29e4e-641d-4478-8b66-a40ccb72faf9","Errors":["a"],"NumberOfRowsExtracted":" 7 "}"#.to_vec();
        let at = at.index(text.len());
        text.splice(at..at, bytes.iter().copied());
        text.truncate(cut.index(text.len() + 1));
        for bytes in [&bytes, &text] {
            if let Err(error) = JobMetadata::parse(bytes) {
                prop_assert_eq!(error.verdict(), Verdict::SetAside(Reason::Metadata));
            }
        }
    }
}

#[test]
fn the_errors_of_a_drop_are_shown_although_other_members_are_not_usable() {
    for other in [r#""NumberOfRowsExtracted": """#, r#""NumberOfRowsExtracted": -1"#, r#""CopyActivityId": "N/A""#] {
        let metadata = parsed(&format!(r#"{{{other}, "Errors": "Consent withdrawn", "TableName": "Rows"}}"#));
        assert_eq!(metadata.errors.as_deref(), Some("Consent withdrawn"), "{other}");
    }
}
