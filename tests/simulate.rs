//! Decrypts simulated drops with plain AES, gzip and RSA, independently of vivadrop's own decoder, and checks their
//! contents.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::RefCell,
    fs,
    io::Read,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aes::{
    Aes256,
    cipher::{BlockModeDecrypt, KeyIvInit, StreamCipher},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use rsa::{
    Oaep, Pkcs1v15Encrypt, RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, LineEnding},
    sha2::Sha256,
};
use serde_json::{Map, Value};
use sha1::Sha1;
use tempfile::TempDir;
use uuid::Uuid;
use vivadrop::simulate::{Cipher, LayoutName, Padding, SimulateError, SimulateOptions, Simulated, simulate};

/// The columns in order. Written out again here, so that the test does not depend on the simulator's own table.
const COLUMNS: [&str; 22] = [
    "ObjectId",
    "MetricDate",
    "AfterHoursCollaboration",
    "AfterHoursCollaborationEmails",
    "AfterHoursCollaborationInstantMessages",
    "AfterHoursCollaborationMeetings",
    "AfterHoursCollaborationScheduledCalls",
    "AfterHoursCollaborationAdhocCalls",
    "CollaborationHours",
    "CollaborationHoursEmails",
    "CollaborationHoursExternal",
    "CollaborationHoursInstantMessages",
    "CollaborationHoursMeetings",
    "CollaborationHoursScheduledCalls",
    "CollaborationHoursAdhocCalls",
    "ConflictingMeetingHours",
    "DirectManagerMeetingHours",
    "OneOnOneMeetingHours",
    "SkipLevelMeetingHours",
    "TotalFocusHours",
    "PeopleHistoricalId",
    "IsActive",
];

/// A drop whose private key `simulate` generated. All tests use that key, because generating one is slow.
static SHARED: LazyLock<(TempDir, Simulated)> = LazyLock::new(|| {
    let out = tempfile::tempdir().unwrap();
    let options = SimulateOptions { users: 1, ..SimulateOptions::default() };
    let simulated = simulate(&options, out.path(), &|_| {}).unwrap();
    (out, simulated)
});

/// Options with a fixed seed and the shared private key.
fn options(users: u64) -> SimulateOptions {
    SimulateOptions {
        users,
        seed: Some(7),
        private_key: Some(SHARED.1.private_key.clone()),
        ..SimulateOptions::default()
    }
}

/// A simulated drop, decrypted.
struct DecryptedDrop {
    simulated: Simulated,
    metadata: Value,
    /// The name and text of each file, in order.
    texts: Vec<(String, String)>,
    column_key: [u8; 48],
    column_cipher: Cipher,
}

/// Simulates a drop, and decrypts its files with the keys of the API's response.
fn simulate_and_decrypt(options: &SimulateOptions) -> DecryptedDrop {
    let out = tempfile::tempdir().unwrap();
    let simulated = simulate(options, out.path(), &|_| {}).unwrap();
    let answer = json(&simulated.decryption_keys);
    let [column_key, file_key] =
        ["Column", "File"].map(|kind| key(&answer, kind, &simulated.private_key, options.key_wrap));
    let mut names: Vec<_> = files(&simulated.drop);
    names.sort();
    let text = |name: String| {
        let bytes = fs::read(simulated.drop.join(&name)).unwrap();
        let text = match options.layout {
            LayoutName::EncryptedGzip => gunzip(&decrypt(bytes, &file_key, options.file_cipher)),
            LayoutName::GzipEncrypted => decrypt(gunzip(&bytes), &file_key, options.file_cipher),
            LayoutName::Encrypted => decrypt(bytes, &file_key, options.file_cipher),
            LayoutName::Plain => bytes,
        };
        (name, String::from_utf8(text).unwrap())
    };
    DecryptedDrop {
        texts: names.into_iter().map(text).collect(),
        metadata: json(&simulated.drop.join("metadata/JobMetadata/Metadata.json")),
        column_key,
        column_cipher: options.column_cipher,
        simulated,
    }
}

impl DecryptedDrop {
    fn text(&self) -> String {
        self.texts.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The rows with decrypted Object IDs.
    fn rows(&self) -> Vec<Map<String, Value>> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| self.row(line)).collect()
    }

    /// A row with its decrypted Object ID.
    fn row(&self, line: &str) -> Map<String, Value> {
        let mut row: Map<String, Value> = serde_json::from_str(line).unwrap();
        let encrypted = STANDARD.decode(row["ObjectId"].as_str().unwrap()).unwrap();
        let id = decrypt(encrypted, &self.column_key, self.column_cipher);
        row["ObjectId"] = String::from_utf8(id).unwrap().into();
        row
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|file| file.file_name().into_string().unwrap()).collect()
}

/// A key of 32 bytes, followed by its IV of 16 bytes.
fn key(answer: &Value, kind: &str, private_key: &Path, wrap: Padding) -> [u8; 48] {
    let private_key = RsaPrivateKey::from_pkcs8_pem(&fs::read_to_string(private_key).unwrap()).unwrap();
    let details = answer["DecryptionKeys"].as_array().unwrap();
    let details = details.iter().find(|key| key["DecryptionKeyType"] == kind).unwrap();
    let bytes = |name: &str| STANDARD.decode(details[name].as_str().unwrap()).unwrap();
    let key = match wrap {
        Padding::Oaep => private_key.decrypt(Oaep::new::<Sha1>(), &bytes("Value")),
        Padding::Oaep256 => private_key.decrypt(Oaep::new::<Sha256>(), &bytes("Value")),
        Padding::Pkcs1v15 => private_key.decrypt(Pkcs1v15Encrypt, &bytes("Value")),
    };
    [key.unwrap(), bytes("IV")].concat().try_into().unwrap()
}

fn decrypt(mut bytes: Vec<u8>, key_and_iv: &[u8; 48], cipher: Cipher) -> Vec<u8> {
    let (key, iv) = key_and_iv.split_at(32);
    match cipher {
        Cipher::Ctr => ctr::Ctr128BE::<Aes256>::new_from_slices(key, iv).unwrap().apply_keystream(&mut bytes),
        Cipher::Cbc => {
            let cbc = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).unwrap();
            let length = cbc.decrypt_padded::<aes::cipher::block_padding::Pkcs7>(&mut bytes).unwrap().len();
            bytes.truncate(length);
        }
    }
    bytes
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut text).unwrap();
    text
}

fn number(row: &Map<String, Value>, column: &str) -> f64 {
    row[column].as_f64().unwrap()
}

#[test]
fn each_user_has_a_row_of_22_columns_for_each_week() {
    let drop = simulate_and_decrypt(&options(30));
    let rows = drop.rows();
    assert_eq!(rows.len(), 30 * 13);
    assert_eq!(drop.simulated.rows, 30 * 13);
    for line in drop.text().lines() {
        let names = line.split('"').filter(|piece| COLUMNS.contains(piece));
        assert!(names.eq(COLUMNS), "{line}");
    }
    for (week, rows) in rows.chunks(30).enumerate() {
        let sunday = ["2026-08-16T00:00:00Z", "2026-08-23T00:00:00Z"].get(week);
        assert!(rows.iter().all(|row| row["MetricDate"] == rows[0]["MetricDate"]));
        assert!(sunday.is_none_or(|sunday| rows[0]["MetricDate"] == *sunday));
    }
}

#[test]
fn a_user_has_the_same_ids_in_all_weeks_and_no_two_users_share_one() {
    let drop = simulate_and_decrypt(&options(30));
    let rows = drop.rows();
    let mut seen = std::collections::HashSet::new();
    for (user, row) in rows.iter().enumerate().take(30) {
        let id = row["ObjectId"].as_str().unwrap();
        assert_eq!(id.parse::<Uuid>().unwrap().to_string(), id);
        let history = row["PeopleHistoricalId"].as_str().unwrap();
        history.strip_suffix("-62135553600").unwrap().parse::<Uuid>().unwrap();
        assert!(seen.insert(id.to_owned()) && seen.insert(history.to_owned()));
        for later in rows.iter().skip(user).step_by(30) {
            assert_eq!(
                (&later["ObjectId"], &later["PeopleHistoricalId"]),
                (&row["ObjectId"], &row["PeopleHistoricalId"])
            );
        }
    }
}

#[test]
fn metrics_are_consistent_with_each_other() {
    let drop = simulate_and_decrypt(&options(400));
    let mut inactive = 0;
    for row in drop.rows() {
        let hours = |column: &str| number(&row, column);
        if row["IsActive"] == false {
            inactive += 1;
            assert!(COLUMNS[2..20].iter().all(|column| hours(column) == 0.0));
            continue;
        }
        let parts = ["Emails", "InstantMessages", "Meetings", "AdhocCalls"];
        let sum = |whole: &str| parts.iter().map(|part| hours(&format!("{whole}{part}"))).sum::<f64>();
        let total = hours("CollaborationHours");
        assert!(total <= sum("CollaborationHours") && total > 0.8 * sum("CollaborationHours"));
        assert!(hours("AfterHoursCollaboration") <= sum("AfterHoursCollaboration"));
        assert!(hours("AfterHoursCollaboration") < total && hours("CollaborationHoursExternal") < total);
        assert!(hours("CollaborationHoursScheduledCalls") <= hours("CollaborationHoursMeetings"));
        assert!(hours("OneOnOneMeetingHours") <= hours("DirectManagerMeetingHours"));
        assert!(total + hours("TotalFocusHours") < 168.0);
    }
    assert!((100..500).contains(&inactive), "{inactive} of 5200");
}

#[test]
fn rows_have_the_size_and_compression_ratio_of_real_ones() {
    let simulated = simulate_and_decrypt(&options(1_000)).simulated;
    let row = simulated.text_bytes as f64 / simulated.rows as f64;
    let ratio = simulated.text_bytes as f64 / simulated.file_bytes as f64;
    assert!((920.0..980.0).contains(&row), "{row} bytes per row");
    assert!((4.8..5.2).contains(&ratio), "{ratio} to 1");
}

#[test]
fn every_layout_contains_the_same_rows_with_every_cipher() {
    let expected = simulate_and_decrypt(&options(200)).rows();
    for layout in [LayoutName::EncryptedGzip, LayoutName::GzipEncrypted, LayoutName::Encrypted, LayoutName::Plain] {
        for (file_cipher, column_cipher) in [(Cipher::Ctr, Cipher::Cbc), (Cipher::Cbc, Cipher::Ctr)] {
            let drop = simulate_and_decrypt(&SimulateOptions { layout, file_cipher, column_cipher, ..options(200) });
            assert_eq!(drop.rows(), expected, "{layout} {file_cipher} {column_cipher}");
            let is_gzip = matches!(layout, LayoutName::EncryptedGzip | LayoutName::GzipEncrypted);
            assert_eq!(drop.texts[0].0, if is_gzip { "part-0.json.gz" } else { "part-0.json" });
        }
    }
}

#[test]
fn keys_can_be_wrapped_with_every_padding() {
    for key_wrap in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
        let drop = simulate_and_decrypt(&SimulateOptions { key_wrap, ..options(2) });
        assert_eq!(drop.rows().len(), 26, "{key_wrap}");
    }
}

#[test]
fn rows_continue_from_file_to_file() {
    let one = simulate_and_decrypt(&options(100));
    let three = simulate_and_decrypt(&SimulateOptions { files: NonZeroUsize::new(3).unwrap(), ..options(100) });
    let rows: Vec<_> = three.texts.iter().map(|(name, text)| (name.as_str(), text.lines().count())).collect();
    assert_eq!(rows, [("part-0.json.gz", 434), ("part-1.json.gz", 433), ("part-2.json.gz", 433)]);
    assert_eq!(three.rows(), one.rows());
    assert_eq!(three.simulated.files, 3);
}

#[test]
fn without_users_there_is_metadata_but_no_file() {
    let drop = simulate_and_decrypt(&options(0));
    assert!(drop.texts.is_empty());
    assert_eq!(drop.metadata["NumberOfRowsExtracted"], 0);
    assert_eq!((drop.simulated.files, drop.simulated.rows), (0, 0));
}

#[test]
fn the_same_seed_gives_the_same_rows() {
    let rows = |seed| simulate_and_decrypt(&SimulateOptions { seed, ..options(20) }).rows();
    assert_eq!(rows(Some(1)), rows(Some(1)));
    assert_ne!(rows(Some(1)), rows(Some(2)));
    assert_ne!(rows(None), rows(None));
}

#[test]
fn keys_are_random_in_spite_of_a_seed() {
    let [one, other] = [(); 2].map(|()| simulate_and_decrypt(&options(1)));
    assert_ne!(one.column_key, other.column_key);
    assert_ne!(one.text(), other.text());
}

#[test]
fn the_metadata_has_the_members_that_microsoft_documents() {
    let drop = simulate_and_decrypt(&SimulateOptions { table_name: Some("PersonReport_v1".into()), ..options(3) });
    let metadata = &drop.metadata;
    assert_eq!(metadata["CopyActivityId"], drop.simulated.copy_activity_id.to_string());
    assert_eq!(metadata["TenantId"], drop.simulated.tenant.to_string());
    assert_eq!(metadata["NumberOfRowsExtracted"], 39);
    assert_eq!(metadata["Errors"], "");
    assert_eq!(metadata["RequestStartDate"], "2026-08-16T00:00:00Z");
    assert_eq!(metadata["RequestEndDate"], "2026-11-15T00:00:00Z");
    assert_eq!(metadata["JobSubmissionTime"], "2026-11-16T01:00:04Z");
    assert_eq!(metadata["JobCompletionTime"], "2026-11-16T01:42:31Z");
    assert_eq!(metadata["ColumnsRequested"], COLUMNS[..20].join(","));
    assert_eq!(metadata["TableName"], "PersonReport_v1");
    assert!(metadata["DataFactoryName"].is_string());
    assert!(metadata.get("DecryptionKeyDetails").is_none());
}

#[test]
fn the_tenant_and_the_request_id_can_be_given() {
    let tenant = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
    let request = Uuid::from_u128(7);
    let drop =
        simulate_and_decrypt(&SimulateOptions { tenant: Some(tenant), copy_activity_id: Some(request), ..options(1) });
    assert_eq!((drop.simulated.tenant, drop.simulated.copy_activity_id), (tenant, request));
    assert_eq!(drop.metadata["TenantId"], tenant.to_string());
}

#[test]
fn keys_in_the_metadata_equal_those_of_the_api_response() {
    let out = tempfile::tempdir().unwrap();
    let options = SimulateOptions { keys_in_metadata: true, ..options(1) };
    let simulated = simulate(&options, out.path(), &|_| {}).unwrap();
    let metadata = json(&simulated.drop.join("metadata/JobMetadata/Metadata.json"));
    assert_eq!(metadata["DecryptionKeyDetails"], json(&simulated.decryption_keys)["DecryptionKeys"]);
}

#[test]
fn metrics_as_strings_have_the_same_digits() {
    let numbers = simulate_and_decrypt(&options(20));
    let strings = simulate_and_decrypt(&SimulateOptions { string_metrics: true, ..options(20) });
    let unquoted = |row: &Map<String, Value>| {
        let unquoted = |(name, value): (&String, &Value)| match value.as_str() {
            Some(text) if COLUMNS[2..20].contains(&name.as_str()) || name == "IsActive" => {
                serde_json::from_str(text).unwrap()
            }
            _ => value.clone(),
        };
        row.iter().map(unquoted).collect::<Vec<_>>()
    };
    for (strings, numbers) in strings.rows().iter().zip(numbers.rows()) {
        assert!(strings["TotalFocusHours"].is_string() && strings["IsActive"].is_string());
        assert_eq!(unquoted(strings), numbers.values().cloned().collect::<Vec<_>>());
    }
}

#[test]
fn no_row_is_written_to_the_disk_unencrypted() {
    let out = tempfile::tempdir().unwrap();
    let simulated = simulate(&options(200), out.path(), &|_| {}).unwrap();
    let bytes = fs::read(simulated.drop.join("part-0.json.gz")).unwrap();
    assert!(!bytes.starts_with(&[0x1f, 0x8b]));
    assert!(memchr::memmem::find(&bytes, b"MetricDate").is_none());
    let mut there = files(out.path());
    there.sort();
    assert_eq!(there, ["decryption-keys.json", "private-key.pem"]);
}

#[test]
fn a_folder_that_is_not_empty_is_not_changed() {
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("mine"), "written earlier").unwrap();
    let error = simulate(&options(1), out.path(), &|_| {}).unwrap_err();
    assert!(matches!(error, SimulateError::NotEmpty(_)), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn an_error_names_the_folder_that_cannot_be_created() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    let error = simulate(&options(1), &file.join("out"), &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", file.join("out").display()));
}

#[test]
fn a_new_private_key_is_pkcs8_and_readable_by_its_owner_only() {
    let path = &SHARED.1.private_key;
    RsaPrivateKey::from_pkcs8_pem(&fs::read_to_string(path).unwrap()).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_private_key_may_be_pkcs1() {
    let folder = tempfile::tempdir().unwrap();
    let shared = fs::read_to_string(&SHARED.1.private_key).unwrap();
    let pem = RsaPrivateKey::from_pkcs8_pem(&shared).unwrap().to_pkcs1_pem(LineEnding::LF).unwrap();
    let path = folder.path().join("pkcs1.pem");
    fs::write(&path, pem).unwrap();
    let drop = simulate_and_decrypt(&SimulateOptions { private_key: Some(path), ..options(1) });
    assert_eq!(drop.rows().len(), 13);
}

#[test]
fn an_invalid_private_key_is_rejected_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let short = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    for path in [write("text", "not a key"), write("short", &short.to_pkcs1_pem(LineEnding::LF).unwrap())] {
        let options = SimulateOptions { private_key: Some(path.clone()), ..options(1) };
        let error = simulate(&options, &folder.path().join("out"), &|_| {}).unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn more_rows_than_can_be_counted_are_rejected() {
    let out = tempfile::tempdir().unwrap();
    let error = simulate(&options(u64::MAX), out.path(), &|_| {}).unwrap_err();
    assert!(matches!(error, SimulateError::TooMany { .. }), "{error}");
}

#[test]
fn progress_rises_from_zero_to_all_rows() {
    let seen = RefCell::new(Vec::new());
    let out = tempfile::tempdir().unwrap();
    simulate(&options(500), out.path(), &|rows| seen.borrow_mut().push(rows)).unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.len() > 5, "{seen:?}");
    assert_eq!((seen[0], seen[seen.len() - 1]), (0, 6_500));
}
