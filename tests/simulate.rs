//! A simulated drop is what the partner's own tools would make of a real one: opened here with plain AES, gzip and RSA.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

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

/// A key that all tests share, since making one takes a while: made by `simulate`, as for somebody who has none.
static SHARED: LazyLock<(TempDir, Simulated)> = LazyLock::new(|| {
    let out = tempfile::tempdir().unwrap();
    let options = SimulateOptions { users: 1, ..SimulateOptions::default() };
    let made = simulate(&options, out.path(), &|_| {}).unwrap();
    (out, made)
});

fn options(users: u64) -> SimulateOptions {
    SimulateOptions {
        users,
        seed: Some(7),
        private_key: Some(SHARED.1.private_key.clone()),
        ..SimulateOptions::default()
    }
}

/// A simulated drop, opened.
struct Opened {
    made: Simulated,
    metadata: Value,
    /// The text of each file, by name, in order.
    texts: Vec<(String, String)>,
    column: [u8; 48],
    column_cipher: Cipher,
}

fn open(options: &SimulateOptions) -> Opened {
    let out = tempfile::tempdir().unwrap();
    let made = simulate(options, out.path(), &|_| {}).unwrap();
    let answer = json(&made.decryption_keys);
    let [column, file] = ["Column", "File"].map(|kind| key(&answer, kind, &made.private_key, options.key_wrap));
    let mut names: Vec<_> = files(&made.drop);
    names.sort();
    let text = |name: String| {
        let bytes = fs::read(made.drop.join(&name)).unwrap();
        let text = match options.layout {
            LayoutName::EncryptedGzip => gunzipped(&decrypted(bytes, &file, options.file_cipher)),
            LayoutName::GzipEncrypted => decrypted(gunzipped(&bytes), &file, options.file_cipher),
            LayoutName::Encrypted => decrypted(bytes, &file, options.file_cipher),
            LayoutName::Plain => bytes,
        };
        (name, String::from_utf8(text).unwrap())
    };
    Opened {
        texts: names.into_iter().map(text).collect(),
        metadata: json(&made.drop.join("metadata/JobMetadata/Metadata.json")),
        column,
        column_cipher: options.column_cipher,
        made,
    }
}

impl Opened {
    fn text(&self) -> String {
        self.texts.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The rows, their Object IDs decrypted.
    fn rows(&self) -> Vec<Map<String, Value>> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| self.row(line)).collect()
    }

    fn row(&self, line: &str) -> Map<String, Value> {
        let mut row: Map<String, Value> = serde_json::from_str(line).unwrap();
        let sealed = STANDARD.decode(row["ObjectId"].as_str().unwrap()).unwrap();
        let id = decrypted(sealed, &self.column, self.column_cipher);
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

/// Key and IV, one behind the other.
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

fn decrypted(mut bytes: Vec<u8>, key_and_iv: &[u8; 48], cipher: Cipher) -> Vec<u8> {
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

fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut text).unwrap();
    text
}

fn number(row: &Map<String, Value>, column: &str) -> f64 {
    row[column].as_f64().unwrap()
}

#[test]
fn there_is_a_row_of_22_columns_for_each_week_and_user() {
    let drop = open(&options(30));
    let rows = drop.rows();
    assert_eq!(rows.len(), 30 * 13);
    assert_eq!(drop.made.rows, 30 * 13);
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
fn a_user_keeps_the_ids_and_no_two_users_share_them() {
    let drop = open(&options(30));
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
fn figures_fit_together() {
    let drop = open(&options(400));
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
fn rows_are_as_long_as_real_ones_and_get_five_times_smaller() {
    let made = open(&options(1_000)).made;
    let row = made.text_bytes as f64 / made.rows as f64;
    let ratio = made.text_bytes as f64 / made.file_bytes as f64;
    assert!((920.0..980.0).contains(&row), "{row} bytes a row");
    assert!((4.8..5.2).contains(&ratio), "{ratio} to 1");
}

#[test]
fn every_layout_holds_the_same_rows_with_every_cipher() {
    let expected = open(&options(200)).rows();
    for layout in [LayoutName::EncryptedGzip, LayoutName::GzipEncrypted, LayoutName::Encrypted, LayoutName::Plain] {
        for (file_cipher, column_cipher) in [(Cipher::Ctr, Cipher::Cbc), (Cipher::Cbc, Cipher::Ctr)] {
            let drop = open(&SimulateOptions { layout, file_cipher, column_cipher, ..options(200) });
            assert_eq!(drop.rows(), expected, "{layout} {file_cipher} {column_cipher}");
            let zipped = matches!(layout, LayoutName::EncryptedGzip | LayoutName::GzipEncrypted);
            assert_eq!(drop.texts[0].0, if zipped { "part-0.json.gz" } else { "part-0.json" });
        }
    }
}

#[test]
fn keys_can_be_wrapped_in_every_way() {
    for key_wrap in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
        let drop = open(&SimulateOptions { key_wrap, ..options(2) });
        assert_eq!(drop.rows().len(), 26, "{key_wrap}");
    }
}

#[test]
fn rows_go_on_from_file_to_file() {
    let one = open(&options(100));
    let three = open(&SimulateOptions { files: NonZeroUsize::new(3).unwrap(), ..options(100) });
    let rows: Vec<_> = three.texts.iter().map(|(name, text)| (name.as_str(), text.lines().count())).collect();
    assert_eq!(rows, [("part-0.json.gz", 434), ("part-1.json.gz", 433), ("part-2.json.gz", 433)]);
    assert_eq!(three.rows(), one.rows());
    assert_eq!(three.made.files, 3);
}

#[test]
fn without_users_there_is_metadata_and_no_file() {
    let drop = open(&options(0));
    assert!(drop.texts.is_empty());
    assert_eq!(drop.metadata["NumberOfRowsExtracted"], 0);
    assert_eq!((drop.made.files, drop.made.rows), (0, 0));
}

#[test]
fn the_same_seed_makes_the_same_rows() {
    let rows = |seed| open(&SimulateOptions { seed, ..options(20) }).rows();
    assert_eq!(rows(Some(1)), rows(Some(1)));
    assert_ne!(rows(Some(1)), rows(Some(2)));
    assert_ne!(rows(None), rows(None));
}

#[test]
fn keys_are_new_every_time() {
    let [one, other] = [(); 2].map(|()| open(&options(1)));
    assert_ne!(one.column, other.column);
    assert_ne!(one.text(), other.text());
}

#[test]
fn the_metadata_has_what_microsoft_documents() {
    let drop = open(&SimulateOptions { table_name: Some("PersonReport_v1".into()), ..options(3) });
    let metadata = &drop.metadata;
    assert_eq!(metadata["CopyActivityId"], drop.made.copy_activity_id.to_string());
    assert_eq!(metadata["TenantId"], drop.made.tenant.to_string());
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
fn the_tenant_and_the_request_can_be_named() {
    let tenant = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
    let request = Uuid::from_u128(7);
    let drop = open(&SimulateOptions { tenant: Some(tenant), copy_activity_id: Some(request), ..options(1) });
    assert_eq!((drop.made.tenant, drop.made.copy_activity_id), (tenant, request));
    assert_eq!(drop.metadata["TenantId"], tenant.to_string());
}

#[test]
fn keys_in_the_metadata_are_those_of_the_answer() {
    let out = tempfile::tempdir().unwrap();
    let options = SimulateOptions { keys_in_metadata: true, ..options(1) };
    let made = simulate(&options, out.path(), &|_| {}).unwrap();
    let metadata = json(&made.drop.join("metadata/JobMetadata/Metadata.json"));
    assert_eq!(metadata["DecryptionKeyDetails"], json(&made.decryption_keys)["DecryptionKeys"]);
}

#[test]
fn metrics_as_strings_are_spelled_the_same() {
    let numbers = open(&options(20));
    let strings = open(&SimulateOptions { string_metrics: true, ..options(20) });
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
fn nothing_on_the_disk_is_in_the_clear() {
    let out = tempfile::tempdir().unwrap();
    let made = simulate(&options(200), out.path(), &|_| {}).unwrap();
    let bytes = fs::read(made.drop.join("part-0.json.gz")).unwrap();
    assert!(!bytes.starts_with(&[0x1f, 0x8b]));
    assert!(memchr::memmem::find(&bytes, b"MetricDate").is_none());
    let mut there = files(out.path());
    there.sort();
    assert_eq!(there, ["decryption-keys.json", "private-key.pem"]);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("mine"), "here before").unwrap();
    let error = simulate(&options(1), out.path(), &|_| {}).unwrap_err();
    assert!(matches!(error, SimulateError::NotEmpty(_)), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    let error = simulate(&options(1), &file.join("out"), &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", file.join("out").display()));
}

#[test]
fn a_new_private_key_is_pkcs8_for_its_owner_alone() {
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
    let drop = open(&SimulateOptions { private_key: Some(path), ..options(1) });
    assert_eq!(drop.rows().len(), 13);
}

#[test]
fn a_file_without_a_private_key_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let short = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    for path in [write("text", "no key"), write("short", &short.to_pkcs1_pem(LineEnding::LF).unwrap())] {
        let options = SimulateOptions { private_key: Some(path.clone()), ..options(1) };
        let error = simulate(&options, &folder.path().join("out"), &|_| {}).unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn more_rows_than_can_be_counted_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let error = simulate(&options(u64::MAX), out.path(), &|_| {}).unwrap_err();
    assert!(matches!(error, SimulateError::TooMany { .. }), "{error}");
}

#[test]
fn progress_counts_up_to_all_rows() {
    let seen = RefCell::new(Vec::new());
    let out = tempfile::tempdir().unwrap();
    simulate(&options(500), out.path(), &|rows| seen.borrow_mut().push(rows)).unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.len() > 5, "{seen:?}");
    assert_eq!((seen[0], seen[seen.len() - 1]), (0, 6_500));
}
