//! Survey attributes, from the definitions on the command line to the receiver.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::receiver::{Answer, Options, Received, Receiver};
use time::Duration;
use uuid::Uuid;
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use crate::support::{
    attributes::{self, latest_cycle},
    command::{LONG, output_of, vivadrop},
    host_payloads::timer_trigger,
    scene::{Scene, has_ended},
    vectors,
};

const PREFIX: &str = "viva.insights.attributes";

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
    // A week has 168 hours: everybody is in the first range before and after the edit, so that it identifies nobody.
    define(&scene, &["attributes", "add", "Email hours", "--max", "200,300,400"], "saved revision 1").await;
    let cycle = latest_cycle("Now");
    let cycle = format!("Now={}..{}", cycle["start"].as_str().unwrap(), cycle["end"].as_str().unwrap());
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

    let edit = ["attributes", "ranges", "Email hours", "--max", "250,350,450"];
    define(&scene, &edit, "imports `Engagement` `Now` again").await;
    let answer = host.post(&timer_trigger()).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    let received = scene.receiver.received();
    let failed = data_of(&received.bodies, "viva.insights.attributes.failed");
    assert_eq!(failed.len(), 0, "{failed:?}");
    let completed = data_of(&received.bodies, kind);
    assert_eq!((completed.len(), &completed[1]["revision"]), (2, &json!(3)));
    assert!(received.bodies.iter().all(|body| body.len() < 2 << 20));

    let mut import = vivadrop();
    import.args(["import", &drop.path(), "--again"]).envs(&scene.settings);
    let ended = output_of(&mut import).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("import"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_delays_no_import_of_another_tenant() {
    let mut scene = Scene::on_azurite().await;
    let hanging = TenantId(Uuid::new_v4());
    let receiver = Receiver::start(Options::default()).await.unwrap();
    let is_about_attributes = |kind: &str| kind.starts_with(PREFIX);
    receiver.answer_by(move |delivery| {
        let time = if is_about_attributes(&delivery.kind) { Duration::DAY } else { Duration::ZERO };
        Answer::Accept.after(time.unsigned_abs())
    });
    let own = json!({"DELIVER_TO": receiver.url().as_str(), "WEBHOOK_SECRET": receiver.secret().expose_secret()});
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {}, hanging.to_string(): own}).to_string());
    scene.set("DELIVERY_PATIENCE", "20m");
    scene.add_private_key(hanging, &vectors::case("encrypted-ctr").private_key());
    let host = scene.host().await;
    for tenant in [hanging, scene.tenant] {
        let definitions = json!({"attributes": [{"name": "Email hours"}],
            "programs": [{"name": "Engagement", "cycles": [latest_cycle("Now")]}]});
        attributes::define(&scene, tenant, &definitions).await;
        let drop =
            scene.drop_like(SimulateOptions { users: 20, weeks: 1, tenant: Some(tenant), ..Default::default() }).await;
        scene.upload(&drop).await;
        for name in drop.names() {
            assert_eq!(host.post(&scene.event(&drop, &name)).await.status, 200);
        }
        if tenant == hanging {
            let has_begun =
                |received: &Received| received.log.iter().any(|delivery| is_about_attributes(&delivery.kind));
            receiver.wait_for(LONG, has_begun).await.unwrap();
        }
    }
    scene.wait_for(|received| !data_of(&received.bodies, &format!("{PREFIX}.completed")).is_empty()).await;
}
