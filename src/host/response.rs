//! The response to the Functions host.

use std::fmt;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::one_line::one_line;

/// Length limit of the summary in a response, in characters.
const MAX_SUMMARY_CHARS: usize = 1_000;

/// The body of a response to the Functions host.
///
/// It is always a JSON object, because the host waits forever after an empty or `null` body. A 2xx status means that
/// the invocation is over, whatever its outcome. The host reads the body of 2xx responses only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvocationResponse {
    outputs: Map<String, Value>,
    logs: [String; 1],
    return_value: (),
}

impl InvocationResponse {
    /// A response that writes `summary`, as one line, to the log of the invocation.
    pub fn new(summary: impl fmt::Display) -> Self {
        Self { outputs: Map::new(), logs: [one_line(&summary.to_string(), MAX_SUMMARY_CHARS)], return_value: () }
    }
}

/// An HTTP response with this status and summary.
pub(super) fn respond(status: StatusCode, summary: impl fmt::Display) -> Response {
    (status, Json(InvocationResponse::new(summary))).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_response_is_an_object_with_one_log_line() {
        let response = serde_json::to_value(InvocationResponse::new("delivered 7 rows\nof `part-0`")).unwrap();
        let logs = ["delivered 7 rows of `part-0`"];
        assert_eq!(response, json!({"Outputs": {}, "Logs": logs, "ReturnValue": null}));
        let text = serde_json::to_string(&InvocationResponse::new("x")).unwrap();
        assert_eq!(text, r#"{"Outputs":{},"Logs":["x"],"ReturnValue":null}"#);
    }
}
