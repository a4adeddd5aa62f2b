//! `vivadrop attributes` and `vivadrop programs`: a tenant's definitions in storage.

use std::process::Stdio;

use serde_json::{Value, json};
use vivadrop::simulate::SimulateOptions;

use crate::support::{
    command::{CommandOutput, LONG, output_of, vivadrop},
    scene::Scene,
};

/// Runs a command about the definitions of the scene's tenant.
async fn run(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let mut command = vivadrop();
    command.args(&arguments[..2]).args(["--tenant", &scene.tenant.to_string()]).args(&arguments[2..]);
    output_of(command.envs(&scene.settings)).await
}

/// Runs a command; checks its exit code and that its output contains `part`; returns its stdout.
async fn expect(scene: &Scene, arguments: &[&str], code: i32, part: &str) -> String {
    let ended = run(scene, arguments).await;
    assert_eq!(ended.code, Some(code), "{arguments:?}: {} {}", ended.stdout, ended.stderr);
    let output = format!("{}{}", ended.stdout, ended.stderr);
    assert!(output.contains(part), "{arguments:?}: {output}");
    ended.stdout
}

#[tokio::test]
async fn definitions_are_edited_from_the_command_line() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        expect(&scene, &["attributes", "list"], 0, "the tenant has no definitions").await;
        expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
        let focus = ["attributes", "add", "Focus", "--metric", "TotalFocusHours", "--max", "5,10,15"];
        expect(&scene, &[&focus[..], &["--role", "Manager=report-filters,report-sections"]].concat(), 0, "revision 2")
            .await;
        let cycle = ["programs", "add", "Engagement", "--cycle", "Past=2020-10-08..2020-10-15"];
        expect(&scene, &cycle, 0, "nothing is imported again or deleted; receivers get the new definitions").await;
        expect(&scene, &["programs", "add", "Engagement", "--cycle", "Oct=2020-10-08..2020-10-01"], 2, "does not end")
            .await;
        expect(&scene, &["attributes", "add", "Email hours"], 2, "used twice").await;
        expect(&scene, &["attributes", "ranges", "Focus", "--max", "5,4,15"], 2, "ascending").await;
        let dry_run = ["attributes", "remove", "Email hours", "--dry-run"];
        expect(&scene, &dry_run, 0, "deletes `Email hours`: receivers drop everything").await;
        expect(&scene, &["attributes", "ranges", "Focus", "--max", "4,8,12.5"], 0, "saved revision 4").await;
        expect(&scene, &["attributes", "roles", "Focus"], 0, "saved revision 4").await;
        let listed = expect(&scene, &["attributes", "list"], 0, "revision 4").await;
        assert!(listed.contains("Focus: `TotalFocusHours`, Hour; 0 to less than 4, "), "{listed}");
        assert_eq!(
            expect(&scene, &["programs", "list"], 0, "").await,
            "Engagement\n  Past: 2020-10-08 to 2020-10-15\n"
        );
        let json: Value = serde_json::from_str(&expect(&scene, &["programs", "list", "--json"], 0, "").await).unwrap();
        assert_eq!(json["attributes"][1]["max"], serde_json::json!([4, 8, 12.5]));
        expect(&scene, &["attributes", "remove", "Email hours"], 0, "deletes `Email hours`").await;
        expect(&scene, &["programs", "remove", "Engagement"], 0, "what was imported for it stays").await;
        expect(&scene, &["programs", "remove", "Engagement"], 2, "there is no program").await;
    }
}

#[tokio::test]
async fn definitions_that_were_edited_by_hand_and_are_not_valid_are_reported_and_not_overwritten() {
    let scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let file = scene.state_folder().join(format!("attributes/{}.json", scene.tenant));
    std::fs::write(&file, r#"{"attributes": [{"name": "Steps"}]}"#).unwrap();
    expect(&scene, &["attributes", "list"], 2, "`Steps`: is not one of the default attributes").await;
    expect(&scene, &["attributes", "add", "Call hours"], 2, "revision 1 stays in force").await;
    let status = output_of(vivadrop().arg("status").envs(&scene.settings)).await;
    assert_eq!(status.code, Some(3), "{}", status.stdout);
    assert!(status.stdout.contains(": attribute `Steps`: is not one of"), "{}", status.stdout);
    let of_another = ["status", "--tenant", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"];
    let status = output_of(vivadrop().args(of_another).envs(&scene.settings)).await;
    assert_eq!(status.code, Some(0), "{}", status.stdout);
}

#[tokio::test]
async fn an_import_record_that_is_not_valid_does_not_hide_the_drops_from_status() {
    let scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let file = scene.state_folder().join(format!("imports/{}/tenant.json", scene.tenant));
    assert!(file.exists());
    std::fs::write(&file, "x").unwrap();
    let drop = scene.drop(5, 1).await;
    scene.upload(&drop).await;
    let delivered = output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(delivered.code, Some(0), "{}", delivered.stderr);
    let status = output_of(vivadrop().arg("status").envs(&scene.settings)).await;
    assert_eq!(status.code, Some(3), "{}", status.stdout);
    for text in [&*drop.path(), "tenant.json` is not a valid ledger record"] {
        assert!(status.stdout.contains(text), "{text}: {}", status.stdout);
    }
}

#[tokio::test]
async fn status_says_why_imports_are_retried() {
    let scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let file = scene.state_folder().join(format!("imports/{}/cycles/0.json", scene.tenant));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "x").unwrap();
    let swept = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
    assert_eq!(swept.code, Some(1), "{}", swept.stderr);
    let status = output_of(vivadrop().arg("status").envs(&scene.settings)).await;
    // A failure of a minute needs no person.
    assert_eq!(status.code, Some(0), "{}", status.stdout);
    for text in [
        "imports of attributes have failed (attempt 1) and are retried",
        "delete it, and run `vivadrop import DROP_PATH --again`",
    ] {
        assert!(status.stdout.contains(text), "{text}: {}", status.stdout);
    }
}

#[tokio::test]
async fn an_import_for_a_paused_tenant_waits() {
    let mut scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let drop = scene.drop(5, 1).await;
    scene.upload(&drop).await;
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {"paused": true}}).to_string());
    let ended = output_of(vivadrop().args(["import", &drop.path()]).envs(&scene.settings)).await;
    let waits = ended.stderr.contains("waits, because its tenant is paused in TENANTS");
    assert_eq!((ended.code, waits), (Some(1), true), "{}", ended.stderr);
}

#[tokio::test]
async fn an_import_of_a_directory_is_rejected() {
    let scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let drop = scene.drop_like(SimulateOptions { users: 5, weeks: 1, directory: true, ..Default::default() }).await;
    let directory = scene.upload_directory(&drop).await.to_string();
    let ended = output_of(vivadrop().args(["import", &directory]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("the drop is a directory export, which has no metrics"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_tenant_that_is_not_ours_has_no_definitions() {
    let scene = Scene::in_a_folder().await;
    let other = "00000000-0000-4000-8000-000000000000";
    let mut command = vivadrop();
    command.args(["attributes", "list", "--tenant", other]).envs(&scene.settings);
    let ended = output_of(&mut command).await;
    assert_eq!((ended.code, ended.stderr.contains("is not in TENANTS")), (Some(2), true), "{}", ended.stderr);
}

#[tokio::test]
async fn a_program_may_come_before_the_first_attribute_and_the_last_attribute_can_be_removed() {
    let scene = Scene::in_a_folder().await;
    let cycle = ["programs", "add", "Engagement", "--cycle", "Past=2020-10-08..2020-10-15"];
    expect(&scene, &cycle, 0, "nothing is imported again or deleted; receivers get the new definitions").await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 2").await;
    expect(&scene, &["attributes", "remove", "Email hours"], 0, "deletes `Email hours`").await;
    assert_eq!(expect(&scene, &["attributes", "list"], 0, "revision 3").await, "");
}

#[tokio::test]
async fn a_role_that_is_given_twice_has_all_of_its_permissions() {
    let scene = Scene::in_a_folder().await;
    let [first, second] = ["Manager=report-filters", "Manager=report-sections,report-filters"];
    let add = ["attributes", "add", "Email hours", "--role", first, "--role", "HR=", "--role", second];
    expect(&scene, &add, 0, "saved revision 1").await;
    let listed = expect(&scene, &["attributes", "list", "--json"], 0, "").await;
    let definitions: Value = serde_json::from_str(&listed).unwrap();
    let expected = json!({"Manager": ["report-filters", "report-sections"], "HR": []});
    assert_eq!(definitions["attributes"][0]["roles"], expected);
}

#[tokio::test]
async fn a_closed_pipe_is_not_an_error_after_a_change_was_saved() {
    let scene = Scene::in_a_folder().await;
    expect(&scene, &["attributes", "add", "Email hours"], 0, "saved revision 1").await;
    let remove = ["attributes", "remove", "Email hours"];
    for (arguments, part) in [(&["attributes", "list"][..], "revision 1"), (&remove[..], "saved revision 2")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = vivadrop();
        command.args(&arguments[..2]).args(["--tenant", &scene.tenant.to_string()]).args(&arguments[2..]);
        let child = command.envs(&scene.settings).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let ended = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
