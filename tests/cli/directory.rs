//! `vivadrop decode --directory`: rows with the person that the directory has for them.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    command::{output_of, vivadrop},
    vectors::{Case, case},
};

/// Writes a directory export of `people` to `folder`, as a drop that is not encrypted.
pub(crate) fn write_directory(folder: &Path, people: &[Value]) {
    let metadata = folder.join("metadata/JobMetadata");
    fs::create_dir_all(&metadata).unwrap();
    let job = json!({
        "CopyActivityId": "5e8f1d2a-ceef-4c7e-b5e8-b3a83e1c69af",
        "TenantId": "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10",
        "NumberOfRowsExtracted": people.len(),
        "TableName": "BasicDataSet_v0.User_v1",
    });
    fs::write(metadata.join("Metadata.json"), job.to_string()).unwrap();
    let rows: String = people.iter().map(|person| format!("{person}\n")).collect();
    fs::write(folder.join("part-0.json"), rows).unwrap();
}

/// The command `decode` for a case.
fn decode(case: &Case) -> Command {
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key());
    command.arg("--decryption-keys").arg(case.decryption_keys().unwrap());
    command
}

/// The rows on stdout, parsed.
fn rows(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_row_ends_with_its_person_even_if_its_id_is_not_printed() {
    let case = case("encrypted-gzip-ctr");
    let plain = rows(&output_of(&mut decode(&case)).await.stdout);
    let id = plain[0]["ObjectId"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &[json!({"id": id.to_uppercase(), "mail": "a@contoso.example", "country": "US"})]);

    for columns in ["*", "MetricDate"] {
        let mut command = decode(&case);
        command.args([
            "--allow-plaintext",
            "true",
            "--directory-columns",
            "country,mail,manager",
            "--row-columns",
            columns,
        ]);
        let ended = output_of(command.arg("--directory").arg(folder.path())).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for line in ended.stdout.lines() {
            let (_, last) = line.rsplit_once(",\"directory\":").unwrap();
            assert!(last == "null}" || last.ends_with("\"manager\":null}}"), "{last}");
        }
        for (row, plain) in rows(&ended.stdout).iter().zip(&plain) {
            let is_person = plain["ObjectId"] == id;
            let expected = json!({"country": "US", "mail": "a@contoso.example", "manager": null});
            assert_eq!(row["directory"], if is_person { expected } else { Value::Null }, "{columns}");
            assert_eq!(row.get("ObjectId").is_some(), columns == "*");
        }
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_is_named() {
    let (case, folder) = (case("encrypted-gzip-ctr"), tempfile::tempdir().unwrap());
    let ended = output_of(decode(&case).arg("--directory").arg(folder.path())).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("directory export: ") && ended.stderr.contains("no job metadata"),
        "{}",
        ended.stderr
    );

    write_directory(folder.path(), &[json!({"id": "x"})]);
    let ended = output_of(decode(&case).arg("--directory").arg(folder.path())).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("ALLOW_PLAINTEXT"), "{}", ended.stderr);

    let ended =
        output_of(decode(&case).args(["--directory-key", "ObjectId=upn"]).arg("--directory").arg(folder.path())).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("COLUMN=id or COLUMN=mail"), "{}", ended.stderr);
}
