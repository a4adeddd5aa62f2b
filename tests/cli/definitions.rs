//! `vivadrop attributes` and `vivadrop programs`: a tenant's definitions in storage.

use serde_json::Value;

use crate::support::{
    command::{CommandOutput, output_of, vivadrop},
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
        expect(&scene, &cycle, 0, "nothing is sent or imported again").await;
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
