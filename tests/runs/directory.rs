//! The directory join: which directory a drop is joined to, and when.

use serde_json::{Value, json};
use uuid::Uuid;
use vivadrop::{
    drop::DropPath,
    run::Trigger,
    store::{Store, WriteIf},
};

use super::{
    process::Process,
    world::{METADATA, TENANT, World, path},
};

const DIRECTORY_TABLE: &str = "BasicDataSet_v0.User_v1";

/// The directory drop of the pipeline run in the folder `run`.
fn directory_of(run: &str) -> DropPath {
    DropPath::new("datasets", format!("{run}/AADUser/{TENANT}"))
}

async fn put_at(world: &World, drop: &DropPath, name: &str, text: impl Into<String>) {
    world.storage.write(&drop.blob(name), text.into().into(), WriteIf::Always).await.unwrap();
}

/// The wrapped Column key of a drop. Every wrapped key unwraps.
fn column_key() -> Value {
    let (value, iv) = ("A".repeat(342) + "==", "A".repeat(22) + "==");
    json!({"DecryptionKeyType": "Column", "DecryptionKeyValue": value, "DecryptionKeyIV": iv})
}

/// Writes a directory drop with these people.
async fn put_directory(world: &World, drop: &DropPath, people: &[Value]) {
    let metadata = json!({
        "CopyActivityId": "5e8f1d2a-ceef-4c7e-b5e8-b3a83e1c69af",
        "TenantId": TENANT,
        "TableName": DIRECTORY_TABLE,
        "NumberOfRowsExtracted": people.len(),
        "DecryptionKeyDetails": [column_key()],
    });
    put_at(world, drop, METADATA, metadata.to_string()).await;
    let rows: String = people.iter().map(|person| format!("{person}\n")).collect();
    put_at(world, drop, "part-0", rows).await;
}

fn person(number: u128, department: &str) -> Value {
    json!({"id": Uuid::from_u128(number), "mail": format!("p{number}@contoso.example"), "department": department})
}

/// The received messages, one per line and sorted, without the times at which they were made.
fn lines(world: &World) -> Vec<String> {
    let mut lines: Vec<_> = world
        .receiver
        .distinct()
        .into_iter()
        .map(|message| {
            let text = String::from_utf8(message.body.to_vec()).unwrap();
            let (head, tail) = text.split_once(r#""timestamp":""#).unwrap();
            let (_, tail) = tail.split_once('"').unwrap();
            format!(r#"{head}"timestamp":""{tail}"#)
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_does_not_join_gets_the_messages_of_version_0_1() {
    let world = World::with_two_files().await;
    put_directory(&world, &directory_of("run"), &[person(1, "HR"), person(2, "Sales"), person(3, "HR")]).await;
    let failed = DropPath::new("datasets", format!("failed/VivaInsights/{TENANT}"));
    put_at(&world, &failed, METADATA, json!({"TenantId": TENANT, "Errors": "no consent"}).to_string()).await;
    for drop in [path(), directory_of("run"), failed] {
        Process::new(&world).runner.run(&drop, None, Trigger::Event, None).await.unwrap();
    }
    let expected: Vec<_> = include_str!("messages.ndjson").lines().collect();
    assert_eq!(lines(&world), expected);
}
