//! The directory export of a simulated drop, which names the people of its rows.
//!
//! As in real exports, some people are missing, because they left, and some appear twice: the last record counts.

use std::{io, path::Path};

use serde_json::json;
use uuid::Uuid;

use super::{
    SimulateError, SimulateOptions, Simulated,
    data_file::{DataFile, Piece},
    extension,
    metadata::JobMetadata,
    people::Person,
    period::Period,
    secrets::{DropKeys, KeyDetails},
    write_metadata_of,
};

/// `TableName` of a directory export.
const TABLE: &str = "BasicDataSet_v0.User_v1";

/// How many people are encoded at once.
const PEOPLE_PER_PIECE: u64 = 2_000;

/// One of this many people is missing.
const MISSING_EVERY: u64 = 50;

/// One of this many people appears twice.
const TWICE_EVERY: u64 = 100;

/// The number of people in a team, including its manager.
const TEAM: u64 = 8;

const DEPARTMENTS: [&str; 6] = ["Engineering", "Sales", "Marketing", "Finance", "HR", "Operations"];
const TITLES: [&str; 4] = ["Specialist", "Senior Specialist", "Lead", "Assistant"];
const COUNTRIES: [&str; 5] = ["US", "DE", "JP", "FR", "BR"];

/// Writes the export of the people whose seed is `seed` to `folder`. Its wrapped keys are in its metadata.
pub(super) fn write(
    options: &SimulateOptions,
    period: &Period,
    seed: u64,
    (keys, details): (&DropKeys, Vec<KeyDetails>),
    simulated: &Simulated,
    folder: &Path,
) -> Result<(), SimulateError> {
    std::fs::create_dir(folder).map_err(SimulateError::writing(folder))?;
    let path = folder.join(format!("part-0.{}", extension(options.layout)));
    let rows = write_people(options, seed, keys, &path).map_err(SimulateError::writing(&path))?;
    let mut metadata = JobMetadata::new(simulated, period);
    metadata.copy_activity_id = Uuid::new_v4().to_string();
    metadata.columns_requested = "id,mail,userPrincipalName,displayName,department,jobTitle,country,manager".into();
    metadata.number_of_rows_extracted = rows;
    metadata.table_name = Some(TABLE);
    metadata.decryption_key_details = Some(details);
    write_metadata_of(folder, &metadata)
}

/// Writes the records of all people to the file at `path`. Returns the number of records.
fn write_people(options: &SimulateOptions, seed: u64, keys: &DropKeys, path: &Path) -> io::Result<u64> {
    let mut file = DataFile::create(path, options.layout, options.file_cipher, &keys.file)?;
    let mut rows = 0;
    let mut first = 0;
    while first < options.users {
        let end = options.users.min(first + PEOPLE_PER_PIECE);
        let mut text = Vec::new();
        for record in (first..end).flat_map(|number| records(seed, number)) {
            serde_json::to_writer(&mut text, &record)?;
            text.push(b'\n');
            rows += 1;
        }
        file.push(&Piece::encode(text, options.layout)?)?;
        first = end;
    }
    file.finish()?;
    Ok(rows)
}

/// The records of the person with this number: usually one.
fn records(seed: u64, number: u64) -> Vec<serde_json::Value> {
    if number % MISSING_EVERY == MISSING_EVERY - 1 {
        return Vec::new();
    }
    let id = |number| Person::of(seed, number).object_id;
    // The first person of a team is its manager; the managers report to person 0.
    let manager = if number.is_multiple_of(TEAM) { 0 } else { number - number % TEAM };
    let pick = |list: &[&str], every: u64| list[(number / every) as usize % list.len()].to_owned();
    let mail = format!("person{number}@contoso.example");
    let record = json!({
        "id": id(number),
        "accountEnabled": true,
        "companyName": "Contoso",
        "country": pick(&COUNTRIES, 3),
        "department": pick(&DEPARTMENTS, TEAM),
        "displayName": format!("Person {number}"),
        "jobTitle": if number % 7 == 6 { None } else { Some(pick(&TITLES, 1)) },
        "mail": mail,
        "manager": if number == 0 { json!(null) } else { json!({"id": id(manager)}) },
        "officeLocation": format!("Building {}", number % 9 + 1),
        "userPrincipalName": mail.to_uppercase(),
    });
    if number % TWICE_EVERY != TWICE_EVERY / 2 {
        return vec![record];
    }
    let mut earlier = record.clone();
    earlier["department"] = "Interns".into();
    vec![earlier, record]
}
