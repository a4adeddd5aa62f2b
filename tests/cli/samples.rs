//! Decodes Microsoft's sample files, if `VIVADROP_SAMPLES` names their folder. Otherwise the test passes without
//! testing anything.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::support::{
    command::{output_of, vivadrop},
    vectors::case,
};

/// The environment variable with the path of the folder that contains the sample files.
const SAMPLES: &str = "VIVADROP_SAMPLES";

#[tokio::test]
async fn microsofts_samples_are_decoded_completely() {
    let Some(samples) = std::env::var_os(SAMPLES).map(PathBuf::from) else {
        eprintln!("SKIPPED: set {SAMPLES} to the folder with Microsoft's sample files");
        return;
    };
    for (name, rows) in [
        ("BasicDataSet_v0.User_v1.json", 10),
        ("SampleVivaInsightsMetricData.json", 1000),
        ("VivaInsightsDataset_v0.json", 1000),
        ("VivaInsightsDataset_v1.json", 1000),
    ] {
        let drop = tempfile::tempdir().unwrap();
        fs::copy(samples.join(name), drop.path().join(name)).unwrap();
        fs::create_dir(drop.path().join("metadata")).unwrap();
        let metadata = format!(r#"{{"TenantId":"{}","NumberOfRowsExtracted":{rows}}}"#, uuid::Uuid::new_v4());
        fs::write(drop.path().join("metadata/JobMetadata.json"), metadata).unwrap();

        let mut decode = vivadrop();
        decode.arg("decode").arg(drop.path()).args(["--allow-plaintext", "true", "--row-values", "verbatim"]);
        let ended = output_of(decode.arg("--private-key").arg(case("encrypted-ctr").private_key())).await;
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
        let expected = fs::read_to_string(samples.join(name)).unwrap();
        let value = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        assert!(expected.lines().map(value).eq(ended.stdout.lines().map(value)), "{name}");
        assert_eq!(ended.stdout.lines().count(), rows);
    }
}
