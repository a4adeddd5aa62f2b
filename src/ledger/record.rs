//! The records of a file and of a drop.

use std::{fmt, num::ParseIntError, str::FromStr, time::Duration};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    batch::BatchLimits,
    clock,
    directory::DirectorySnapshot,
    drop::{FileVersion, TenantId, discover::DropContents},
    hex::hex,
    message::MessageId,
    store::{Blob, ETag},
    verdict::Reason,
};

/// Progress of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A run works on the file, or worked on it until it stopped.
    Running,
    /// The sink has acknowledged every row.
    Done,
    /// The file has failed permanently.
    SetAside(Reason),
}

/// The record of one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// The version.
    pub file: FileVersion,
    /// Its progress.
    pub status: Status,
    /// The checkpoint: the sink has acknowledged every row before this one.
    pub next_row: u64,
    /// How many rows before the checkpoint could not be decoded.
    pub bad_rows: u64,
    /// How many runs have worked on the file.
    pub attempts: u32,
    /// How many consecutive runs have ended with a panic and without progress.
    pub panics: u32,
    /// The replay of the drop that this progress belongs to: [`DropRecord::replays`] at that time.
    pub replays: u32,
    /// The generation of the drop at that time.
    pub generation: u32,
    /// The version of the job metadata and the key details that the last run took the keys from; `None` in records of
    /// older vivadrops.
    pub keys: Option<KeysVersion>,
    /// Where batches end. All runs use the limits of the first run, because message ids depend on them.
    pub batch: BatchLimits,
    /// Why the file was set aside, for a person.
    pub message: Option<String>,
    /// The span of the run that works on the file, as a `traceparent`. Only runs that export traces set it, and they
    /// remove it when they end. So if the next run finds a span here, the last run was killed.
    pub run: Option<String>,
    /// When this record was written.
    pub updated: OffsetDateTime,
}

impl FileRecord {
    /// The record of a file at the start of its first run in this replay of its drop.
    pub fn new(file: FileVersion, batch: BatchLimits, replays: u32, generation: u32, keys: KeysVersion) -> Self {
        Self {
            file,
            status: Status::Running,
            next_row: 0,
            bad_rows: 0,
            attempts: 1,
            panics: 0,
            replays,
            generation,
            keys: Some(keys),
            batch,
            message: None,
            run: None,
            updated: clock::now(),
        }
    }

    /// Lets a file that was set aside run again, from its checkpoint. If it has bad rows, it starts at its first row,
    /// because the keys may have made them bad.
    pub(super) fn restart(&mut self) {
        if self.bad_rows > 0 {
            (self.next_row, self.bad_rows) = (0, 0);
        }
        (self.status, self.panics, self.message) = (Status::Running, 0, None);
    }

    /// The facts that are in the blob metadata of the record.
    pub(super) fn facts(&self) -> FileFacts {
        FileFacts { etag: self.file.etag.clone(), replays: self.replays, progress: self.progress() }
    }

    /// The progress.
    pub fn progress(&self) -> FileProgress {
        FileProgress { status: self.status, next_row: self.next_row, bad_rows: self.bad_rows, keys: self.keys }
    }
}

/// The facts about a file that a listing of records returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub(super) etag: ETag,
    pub(super) replays: u32,
    pub(super) progress: FileProgress,
}

/// The progress of one version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileProgress {
    /// Whether the file has ended.
    pub status: Status,
    /// The checkpoint: the sink has acknowledged every row before this one.
    pub next_row: u64,
    /// How many rows before the checkpoint could not be decoded.
    pub bad_rows: u64,
    /// The version of the job metadata and the key details that the last run took the keys from; `None` in records of
    /// older vivadrops.
    pub keys: Option<KeysVersion>,
}

impl FileProgress {
    /// Whether a run with these keys has nothing to do. New keys are a reason to try a file again that was set aside.
    pub fn has_ended(&self, keys: KeysVersion) -> bool {
        match self.status {
            Status::Running => false,
            Status::Done => true,
            Status::SetAside(_) => self.keys.is_none_or(|tried| tried == keys),
        }
    }
}

/// Identifies the versions of the job metadata and the key details, from which a drop gets its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeysVersion(u64);

impl fmt::Display for KeysVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for KeysVersion {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The versions of the blobs that an ending is about. The ending is valid as long as none of these blobs changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The job metadata, as `name@ETag`.
    pub metadata: String,
    /// The key details, as `name@ETag`, or an empty text if there are none; `None` if version 1 recorded the ending.
    pub key_details: Option<String>,
    /// A hash of the names and versions of all files; `None` if the ending is valid for any files.
    pub files: Option<String>,
    /// The number of files.
    pub file_count: usize,
}

impl Scope {
    /// The versions of everything in a drop.
    pub fn of(contents: &DropContents) -> Self {
        let versions: Vec<_> =
            contents.files.iter().map(|file| (contents.relative(file).to_owned(), file.etag.clone())).collect();
        let version = |blob: &Blob| format!("{}@{}", contents.relative(blob), blob.etag);
        Self {
            metadata: version(&contents.metadata),
            key_details: Some(contents.key_details.as_ref().map(version).unwrap_or_default()),
            files: Some(if contents.too_many_blobs { "too many".into() } else { files_hash(versions) }),
            file_count: contents.files.len(),
        }
    }

    /// Whether an ending about these versions is valid for the `current` ones.
    pub fn covers(&self, current: &Self) -> bool {
        self.covers_keys_of(current) && self.files.as_ref().is_none_or(|files| Some(files) == current.files.as_ref())
    }

    /// The versions as a text that is the same for the same versions.
    pub fn as_text(&self) -> String {
        let Self { metadata, key_details, files, .. } = self;
        format!("{metadata} {} {}", key_details.as_deref().unwrap_or_default(), files.as_deref().unwrap_or_default())
    }

    /// The versions of the job metadata and the key details.
    pub fn keys_version(&self) -> KeysVersion {
        let text = format!("{} {}", self.metadata, self.key_details.as_deref().unwrap_or_default());
        let hash = Sha256::digest(text);
        KeysVersion(u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes")))
    }

    /// Whether the job metadata and the key details are the `current` ones.
    pub fn covers_keys_of(&self, current: &Self) -> bool {
        let key_details = self.key_details.as_ref().is_none_or(|details| Some(details) == current.key_details.as_ref());
        self.metadata == current.metadata && key_details
    }
}

/// A hash of names and versions, in the order of the names.
pub(super) fn files_hash(mut versions: Vec<(String, ETag)>) -> String {
    versions.sort();
    let mut hash = Sha256::new();
    for (name, etag) in versions {
        for part in [name, etag.0] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hex(hash.finalize().first_chunk::<16>().expect("a hash has 32 bytes"))
}

/// How a drop ended: the content of its last `drop.completed` or `drop.failed` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The versions of the blobs that the ending is about.
    pub scope: Scope,
    /// Why the drop was set aside; `None` if it is completed.
    pub reason: Option<Reason>,
    /// The file that the reason applies to; `None` if it applies to the drop.
    pub file: Option<String>,
    /// The reason, for a person.
    pub message: Option<String>,
    /// Rows delivered: of the file, if there is one, or else of the drop.
    pub rows: u64,
    /// Rows that could not be decoded.
    pub bad_rows: u64,
    /// When the ending was recorded.
    pub recorded: OffsetDateTime,
    /// Whether the sink has taken the message about the ending.
    pub announcement: Announcement,
    /// Whether no further ending about these versions follows. If one follows, a run still delivers other files, or has
    /// yet to announce other files that were set aside: each of these files has an ending of its own.
    pub is_final: bool,
}

/// Whether the sink has taken the message about an ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// Not yet: runs send the message until the sink takes it.
    Pending,
    /// The sink took the message with this id. Endings of directories that are only joined have no message, nor have
    /// some of version 1.
    Done(Option<MessageId>),
    /// The sink rejected `drop.failed` for good.
    Rejected,
    /// The sink took no message for 30 days.
    GivenUp,
}

impl Ending {
    /// Whether no message about the ending is sent any more.
    pub fn is_announced(&self) -> bool {
        self.announcement != Announcement::Pending
    }

    /// Whether both endings set the drop aside with the same reason, file and message. The sink then need not be told
    /// again. It is always told about a completed drop, because that message has the number of rows.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.reason.is_some() && (self.reason, &self.file, &self.message) == (other.reason, &other.file, &other.message)
    }
}

/// The failures of a drop since its last progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// When the first failure occurred, or when the drop first waited for memory.
    pub since: OffsetDateTime,
    /// How much of the time since then the drop has waited for memory. It does not count towards `GIVE_UP_AFTER`.
    pub waited: Duration,
    /// Whether the last try only waited for memory.
    pub waits_for_memory: bool,
    /// How many failures were counted. A failure within a minute of `last` is not counted.
    pub attempts: u32,
    /// When the last counted failure occurred, or when the drop last waited for memory, if that is later.
    pub last: OffsetDateTime,
    /// When sweeps run the drop again.
    pub not_before: OffsetDateTime,
    /// Whether `not_before` is the time that a `Retry-After` set. Events then wait as well.
    pub retry_after: bool,
    /// Whether every failure occurred because the sink denied access, or rejects every message.
    pub is_denied: bool,
    /// The last failure, or why the drop waits for memory, for a person.
    pub error: String,
}

/// The directory that the rows of a drop are joined to. It is recorded before the first row is sent, so that every run
/// of the drop sends the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedDirectory {
    /// The directory; `None` if no directory was available. The `directory` of each row is then null.
    pub snapshot: Option<DirectorySnapshot>,
}

/// The record of a drop, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropRecord {
    /// When the ledger first saw the drop, or when the drop was last replayed or opened again after an ending, if that
    /// is later. `None` if there is no record of the drop yet, or version 1 wrote the record.
    pub first_seen: Option<OffsetDateTime>,
    /// The tenant that the drop belongs to; `None` if there is no record of the drop yet, or version 1 wrote the
    /// record.
    pub tenant: Option<TenantId>,
    /// How often the drop was replayed. Progress of files from before the last replay does not count.
    pub replays: u32,
    /// How often the drop was replayed with new ids.
    pub generation: u32,
    /// The number of endings so far: the `sequence` of the last one. Replays do not reset it, but a replay of a record
    /// that cannot be parsed sets it to the Unix time, which is higher.
    pub sequence: u64,
    /// How the drop ended, if it has.
    pub ending: Option<Ending>,
    /// The files that were set aside and announced in this replay, as `name@ETag reason`. Older vivadrops left out the
    /// reason.
    pub announced_files: Vec<String>,
    /// The directory that the drop's rows are joined to, as soon as it is chosen.
    pub directory: Option<PinnedDirectory>,
    /// The failures since the last progress, if any.
    pub failing: Option<Failing>,
    /// The span of the first run, as a `traceparent`, if it was exported: later runs link to it.
    pub first_run: Option<String>,
    /// The version of the record's blob, which a write must overwrite; `None` if there was no record.
    pub(super) version: Option<ETag>,
}

impl DropRecord {
    /// Whether there is a record of the drop.
    pub fn exists(&self) -> bool {
        self.version.is_some()
    }

    /// The time before which events do not run the drop; `None` if they may run it now.
    pub fn held_until(&self) -> Option<OffsetDateTime> {
        self.failing.as_ref().filter(|failing| failing.retry_after).map(|failing| failing.not_before)
    }

    /// Whether the sink was told that this version of a file, a `name@ETag`, was set aside for this reason.
    pub fn is_announced(&self, version: &str, reason: Reason) -> bool {
        let with_reason = format!("{version} {reason}");
        self.announced_files.iter().any(|announced| *announced == version || *announced == with_reason)
    }

    /// Records that the sink was told so. New keys may change the reason.
    pub fn note_announced(&mut self, version: &str, reason: Reason) {
        let is_reason = |text: &str| text.strip_prefix(' ').is_some_and(|reason| !reason.contains([' ', '@']));
        let is_about_it =
            |announced: &String| announced.strip_prefix(version).is_some_and(|rest| rest.is_empty() || is_reason(rest));
        self.announced_files.retain(|announced| !is_about_it(announced));
        self.announced_files.push(format!("{version} {reason}"));
    }
}
