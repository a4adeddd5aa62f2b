//! Definitions of attributes: every text is rejected with a reason, or accepted and then usable for rows.

use vivadrop::{
    attributes::{CyclePass, Definitions, RowParser, Window},
    stage::decode::{Decoder, RowRules},
};

use super::stages;

/// Rows of two people, with old and new columns, numbers in strings and long numbers.
const ROWS: &[u8] = br#"
{"ObjectId":"b7f16999-b812-4462-b854-bcea37e7597c","MetricDate":"2024-10-06","EmailHours":3.25,"CallHours":"1.5","IsActive":true}
{"ObjectId":"9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10","MetricDate":"2024-10-06T00:00:00Z","EmailHours":1e-7,"TotalFocusHours":999999999.9}
{"ObjectId":"9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10","MetricDate":"2024-09-29","CollaborationHours":0.123456789123456789,"IsActive":false}
"#;

/// Parses the bytes as definitions, and computes each cycle.
pub fn check(bytes: &[u8]) {
    let definitions = match Definitions::parse(bytes) {
        Ok(definitions) => definitions,
        Err(error) => return assert!(!error.to_string().is_empty(), "a mistake without a reason"),
    };
    let rules =
        RowRules { columns: Some(RowParser::columns(&definitions)), records_values: true, ..RowRules::default() };
    let decoder = Decoder::new(&rules, None);
    for cycle in definitions.programs.iter().flat_map(|program| &program.cycles) {
        let Some(window) = Window::before(cycle.end) else { continue };
        let (parser, mut pass) = (RowParser::new(&definitions, window), CyclePass::new(&definitions, window, 64 << 20));
        for block in stages::blocks(rules.max_row_bytes, &[ROWS]) {
            pass.push(&parser.parse(&stages::rows(&decoder, &block).expect("no line is too long")));
        }
        let report = pass.finish(true);
        assert!(report.people_count() <= 2);
        assert_eq!(report.counts().count(), definitions.attributes.len());
    }
}
