//! The job metadata of a simulated drop.

use serde::Serialize;

use super::{Simulated, people::METRICS, period::Period, secrets::KeyDetails};

/// `Metadata.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JobMetadata<'a> {
    pub(super) copy_activity_id: String,
    job_submission_time: String,
    job_completion_time: String,
    request_start_date: String,
    request_end_date: String,
    pub(super) columns_requested: String,
    pub(super) number_of_rows_extracted: u64,
    data_factory_name: &'static str,
    tenant_id: String,
    errors: &'static str,
    /// A member of later versions of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_name: Option<&'a str>,
    /// A member of later versions of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decryption_key_details: Option<Vec<KeyDetails>>,
}

impl JobMetadata<'_> {
    /// The metadata with the members of its first version only.
    pub(super) fn new(simulated: &Simulated, period: &Period) -> Self {
        Self {
            copy_activity_id: simulated.copy_activity_id.to_string(),
            job_submission_time: period.submission(),
            job_completion_time: period.completion(),
            request_start_date: period.start(),
            request_end_date: period.end(),
            columns_requested: format!("ObjectId,MetricDate,{}", METRICS.join(",")),
            number_of_rows_extracted: simulated.rows,
            data_factory_name: "vivadrop-simulate",
            tenant_id: simulated.tenant.to_string(),
            errors: "",
            table_name: None,
            decryption_key_details: None,
        }
    }
}
