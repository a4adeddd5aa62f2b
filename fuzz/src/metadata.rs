//! Fuzzes job metadata. Parsing what was serialized must give the same values, and only the first object may count.

use serde_json::{Map, Value};
use vivadrop::drop::metadata::JobMetadata;

/// Parses the bytes as job metadata.
pub fn check(bytes: &[u8]) {
    let parsed = match JobMetadata::parse(bytes) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _verdict = error.verdict();
            assert!(error.to_string().len() < 200, "the error quotes its input: {error}");
            return;
        }
    };
    for text in [&parsed.table_name, &parsed.request_start_date, &parsed.request_end_date, &parsed.errors] {
        assert!(text.as_ref().is_none_or(|text| text.chars().count() <= 1000), "too long for a message: {text:?}");
    }
    let errors = parsed.errors.as_deref().unwrap_or_default();
    assert!(!errors.contains(char::is_control), "more than one line: {errors:?}");

    let with_tail = [bytes, b"\n{\"TenantId\":7}\xFF"].concat();
    assert!(JobMetadata::parse(&with_tail).as_ref() == Ok(&parsed), "data after the first object was not ignored");
    if !bytes.starts_with(b"\xEF\xBB\xBF") {
        let with_bom = [b"\xEF\xBB\xBF", bytes].concat();
        assert!(JobMetadata::parse(&with_bom).as_ref() == Ok(&parsed), "the byte-order mark was not ignored");
    }
    let again = JobMetadata::parse(serialize(&parsed).to_string().as_bytes());
    assert_eq!(again.as_ref().map(summarize), Ok(summarize(&parsed)));
}

/// The values to compare.
fn summarize(metadata: &JobMetadata) -> impl PartialEq + std::fmt::Debug {
    let texts = texts(metadata).map(|(_, text)| text.cloned());
    (texts, metadata.tenant_id, metadata.rows_extracted, metadata.decryption_key_details.is_some())
}

fn texts(metadata: &JobMetadata) -> [(&'static str, Option<&String>); 10] {
    [
        ("copyactivityid", metadata.copy_activity_id.as_ref()),
        ("ERRORS", metadata.errors.as_ref()),
        ("TableName", metadata.table_name.as_ref()),
        ("RequestStartDate", metadata.request_start_date.as_ref()),
        ("RequestEndDate", metadata.request_end_date.as_ref()),
        ("JobSubmissionTime", metadata.job_submission_time.as_ref()),
        ("JobCompletionTime", metadata.job_completion_time.as_ref()),
        ("ColumnsRequested", metadata.columns_requested.as_ref()),
        ("DataFactoryName", metadata.data_factory_name.as_ref()),
        ("PublicKeyVersion", metadata.public_key_version.as_ref()),
    ]
}

fn serialize(metadata: &JobMetadata) -> Value {
    let mut members = Map::new();
    let texts = texts(metadata).into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.clone().into())));
    members.extend(texts);
    members.extend(metadata.tenant_id.map(|id| ("TenantId".to_owned(), id.to_string().into())));
    members.extend(metadata.rows_extracted.map(|rows| ("NumberOfRowsExtracted".to_owned(), rows.to_string().into())));
    let has_keys = metadata.decryption_key_details.is_some();
    members.extend(has_keys.then(|| ("DecryptionKeyDetails".to_owned(), Value::Array(Vec::new()))));
    members.into()
}
