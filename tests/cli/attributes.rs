//! `vivadrop attributes preview`: ranges of people for survey programs.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Date, Duration, macros::format_description};
use tokio::process::Command;

use super::directory::write_directory;
use crate::support::command::{CommandOutput, output_of, vivadrop};

/// A simulated drop of 60 people over 13 weeks.
struct Drop {
    folder: TempDir,
    /// The last date of its rows, a Sunday.
    last: Date,
}

impl Drop {
    /// Simulates the drop; the seed is fixed.
    async fn simulate() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sim");
        let mut simulate = vivadrop();
        simulate
            .args(["simulate", "--users", "60", "--weeks", "13", "--seed", "5", "--keys-in-drop", "--out"])
            .arg(&out);
        let ended = output_of(&mut simulate).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let mut drop = Self { folder, last: Date::MIN };
        let rows = output_of(vivadrop().arg("decode").args(drop.arguments())).await.stdout;
        let dates = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["MetricDate"].clone());
        let format = format_description!("[year]-[month]-[day]");
        drop.last = dates.map(|date| Date::parse(&date.as_str().unwrap()[..10], format).unwrap()).max().unwrap();
        drop
    }

    /// The arguments for the drop and its private key.
    fn arguments(&self) -> [PathBuf; 3] {
        let out = self.folder.path().join("sim");
        [out.join("drop"), "--private-key".into(), out.join("private-key.pem")]
    }

    /// The output of `preview` for definitions with a cycle whose window ends `weeks` weeks after the last week of the
    /// drop.
    async fn preview(&self, weeks: i64, attributes: Value, more: &[&str]) -> CommandOutput {
        output_of(self.command(weeks, attributes).args(more)).await
    }

    /// The command of [`Self::preview`].
    fn command(&self, weeks: i64, attributes: Value) -> Command {
        let end = self.last + Duration::days(8 + 7 * weeks);
        let cycle = json!({"name": "Oct", "start": (end - Duration::days(7)).to_string(), "end": end.to_string()});
        let definitions =
            json!({"version": 1, "attributes": attributes, "programs": [{"name": "Pulse", "cycles": [cycle]}]});
        let file = self.folder.path().join("attributes.json");
        fs::write(&file, definitions.to_string()).unwrap();
        let mut command = vivadrop();
        command.args(["attributes", "preview"]).args(self.arguments()).arg("--attributes").arg(file);
        command
    }
}

/// A default attribute, and one of another metric.
fn two_attributes() -> Value {
    json!([{"name": "Email hours"}, {"name": "Focus", "metric": "TotalFocusHours", "max": [5, 10, 15]}])
}

#[tokio::test]
async fn counts_are_those_of_the_people() {
    let drop = Drop::simulate().await;
    let ended = drop.preview(0, two_attributes(), &["--format", "json"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let cycle: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&cycle["program"], &cycle["cycle"]), (&json!("Pulse"), &json!("Oct")));
    assert_eq!((&cycle["window"]["weeks"], &cycle["window"]["period"]), (&json!(12), &json!("week")));
    let people = cycle["people"].as_array().unwrap();
    assert_eq!(people.len(), 60);
    assert!(people.is_sorted_by_key(|person| person["ObjectId"].as_str().unwrap().to_owned()));
    for name in ["Email hours", "Focus"] {
        let mut counts = [0; 4];
        for person in people {
            if let Some(range) = person["attributes"][name]["range"].as_u64() {
                counts[range as usize - 1] += 1;
            }
        }
        for (range, count) in cycle["counts"][name].as_array().unwrap().iter().enumerate() {
            assert_eq!(count.as_u64().unwrap_or(0), counts[range], "{name}");
            assert!(count.is_null() || counts[range] == 0 || counts[range] >= 5, "{name}");
        }
    }
}

#[tokio::test]
async fn a_csv_has_a_line_for_each_person_and_the_e_mail_address_first() {
    let drop = Drop::simulate().await;
    let json = drop.preview(0, two_attributes(), &["--format", "json"]).await.stdout;
    let cycle: Value = serde_json::from_str(&json).unwrap();
    let id = cycle["people"][0]["ObjectId"].clone();
    let directory = drop.folder.path().join("users");
    write_directory(&directory, &[json!({"id": id, "mail": "a@contoso.example", "department": "=HR"})]);
    let directory = directory.to_str().unwrap();
    let more = [
        "--format",
        "csv",
        "--allow-plaintext",
        "true",
        "--directory",
        directory,
        "--directory-columns",
        "department,mail",
    ];
    let ended = drop.preview(0, two_attributes(), &more).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.split("\r\n").collect();
    assert_eq!((lines.len(), lines[0], lines[61]), (62, "Email,Object ID,department,Email hours,Focus", ""));
    assert!(lines[1].starts_with(&format!("a@contoso.example,{},'=HR,", id.as_str().unwrap())), "{}", lines[1]);
    assert!(lines[2].starts_with(','), "{}", lines[2]);
}

#[tokio::test]
async fn a_csv_of_several_cycles_is_refused_with_their_names() {
    let drop = Drop::simulate().await;
    let mut command = drop.command(0, two_attributes());
    let file = drop.folder.path().join("attributes.json");
    let mut definitions: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut program = definitions["programs"][0].clone();
    program["name"] = json!("Engagement");
    definitions["programs"].as_array_mut().unwrap().push(program);
    fs::write(&file, definitions.to_string()).unwrap();
    command.args(["--format", "csv"]);
    let ended = output_of(&mut command).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
    for text in ["`Pulse/Oct`", "`Engagement/Oct`", "--program", "--cycle"] {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    let ended = output_of(command.args(["--program", "Engagement", "--cycle", "Oct"])).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 61), "{}", ended.stderr);
}

#[tokio::test]
async fn a_table_shows_a_bar_for_each_range() {
    let drop = Drop::simulate().await;
    let ended = drop.preview(0, two_attributes(), &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("Pulse / Oct: 60 people, 12 weeks with rows from "), "{}", ended.stdout);
    for text in ["\nEmail hours\n", "  0 to less than 3 ", "\nFocus\n", "  15 or more "] {
        assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn an_attribute_with_a_misspelled_metric_is_reported_with_the_metric_that_was_meant() {
    let drop = Drop::simulate().await;
    let attributes =
        json!([{"name": "Focus", "metric": "totalfocushours", "max": [5, 10, 15]}, {"name": "Email hours"}]);
    let ended = drop.preview(0, attributes, &["--format", "json"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let expected = "Pulse/Oct: nobody has a number for `Focus`, from `totalfocushours` (Viva Insights has a metric `TotalFocusHours`)";
    assert_eq!(ended.stderr.trim(), expected);
}

#[tokio::test]
async fn a_cycle_that_the_drop_does_not_reach_is_computed_only_if_it_is_named() {
    let drop = Drop::simulate().await;
    let ended = drop.preview(1, two_attributes(), &["--format", "json"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("Pulse/Oct") && ended.stderr.contains("does not reach"), "{}", ended.stderr);
    let named = ["--format", "json", "--program", "Pulse", "--cycle", "Oct"];
    let ended = drop.preview(1, two_attributes(), &named).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 1), "{}", ended.stderr);
    let ended = drop.preview(1, two_attributes(), &["--program", "Pulse", "--cycle", "Nov"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("no cycle `Nov` of a program `Pulse`"), "{}", ended.stderr);
    // All rows are older than the window.
    let ended = drop.preview(40, two_attributes(), &named).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("too-few-people"), "{}", ended.stderr);
}

#[tokio::test]
async fn every_mistake_in_the_definitions_is_named() {
    let drop = Drop::simulate().await;
    let attributes = json!([{"name": "Steps per day"}, {"name": "Email hours", "max": [1, 1, 2]}]);
    let ended = drop.preview(0, attributes, &[]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    for text in ["attributes.json`: 2 mistakes", "`Steps per day`", "`Email hours`: `max`"] {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_table_of_people_is_bounded_by_attributes_memory() {
    let drop = Drop::simulate().await;
    let cases = [("1KiB", 3, "too-many-people"), ("1MiB", 0, ""), ("many", 2, "ATTRIBUTES_MEMORY is `many`")];
    for (memory, code, part) in cases {
        let ended = output_of(drop.command(0, two_attributes()).env("ATTRIBUTES_MEMORY", memory)).await;
        assert_eq!(ended.code, Some(code), "{memory}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{memory}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn flags_for_printed_rows_and_definitions_without_attributes_are_usage_errors() {
    let drop = Drop::simulate().await;
    for flag in ["--row-columns", "--row-values"] {
        let ended = drop.preview(0, two_attributes(), &[flag, "typed"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(flag), "{}", ended.stderr);
    }
    let ended = drop.preview(0, json!([]), &[]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("has no attributes"), "{}", ended.stderr);
}
