//! Survey attributes, from the definitions on the command line to the receiver.

use serde_json::{Value, json};
use time::Duration;
use vivadrop::{clock, simulate::SimulateOptions};

use crate::support::{
    command::{output_of, vivadrop},
    host_payloads::timer_trigger,
    scene::{Scene, has_ended},
};

/// Runs a command about the definitions of the scene's tenant, which prints `part`.
async fn define(scene: &Scene, arguments: &[&str], part: &str) {
    let mut command = vivadrop();
    command.args(&arguments[..2]).args(["--tenant", &scene.tenant.to_string()]).args(&arguments[2..]);
    let ended = output_of(command.envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let output = format!("{}{}", ended.stdout, ended.stderr);
    assert!(output.contains(part), "{output}");
}

/// The data of the messages of this type.
fn data_of(bodies: &[bytes::Bytes], kind: &str) -> Vec<Value> {
    let messages = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
    messages.filter(|message| message["type"] == kind).map(|mut message| message["data"].take()).collect()
}

#[tokio::test]
async fn the_host_imports_a_cycle_after_its_drop_and_again_after_an_edit() {
    let scene = Scene::on_azurite().await;
    let options = SimulateOptions { users: 700, weeks: 13, ..SimulateOptions::default() };
    let drop = scene.drop_like(options).await;
    scene.rows_of(&drop).await;
    define(&scene, &["attributes", "add", "Email hours"], "saved revision 1").await;
    // The cycle ends on the day of the extraction, the Monday after the last week.
    let today = clock::now().date();
    let monday = today - Duration::days(today.weekday().number_days_from_monday().into());
    let cycle = format!("Now={}..{monday}", monday - Duration::days(7));
    define(&scene, &["programs", "add", "Engagement", "--cycle", &cycle], "saved revision 2").await;
    let host = scene.host().await;
    scene.upload(&drop).await;
    for name in drop.names() {
        host.post(&scene.event(&drop, &name)).await;
    }
    let kind = "viva.insights.attributes.completed";
    let received = scene.wait_for(|received| !data_of(&received.bodies, kind).is_empty()).await;
    assert!(has_ended(&received, &drop));
    let people = data_of(&received.bodies, "viva.insights.attributes");
    assert_eq!(people.iter().map(|data| data["people"].as_array().unwrap().len()).sum::<usize>(), 700);
    let completed = &data_of(&received.bodies, kind)[0];
    assert_eq!((&completed["people"], &completed["window"]["weeks"]), (&json!(700), &json!(12)));
    let defined = data_of(&received.bodies, "viva.insights.attributes.defined");
    assert_eq!((defined.len(), &defined[0]["revision"]), (1, &json!(2)));

    define(&scene, &["attributes", "ranges", "Email hours", "--max", "1,20,30"], "imports `Engagement` `Now` again")
        .await;
    let answer = host.post(&timer_trigger()).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    let received = scene.receiver.received();
    let failed = data_of(&received.bodies, "viva.insights.attributes.failed");
    let endings = data_of(&received.bodies, kind).len() + failed.len();
    assert_eq!(endings, 2, "{failed:?}");
    assert!(received.bodies.iter().all(|body| body.len() < 2 << 20));

    let mut import = vivadrop();
    import.args(["import", &drop.path(), "--again"]).envs(&scene.settings);
    let ended = output_of(&mut import).await;
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    assert!(ended.stderr.contains("import"), "{}", ended.stderr);
}
