//! The drops of a soak: how they arrive, and how they must end.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use fastrand::Rng;
use serde_json::Value;
use testkit::receiver::Received;
use vivadrop::simulate::SimulateOptions;

use crate::{
    INSTANCES, JOINING, Soak,
    support::{
        host::HostClient,
        host_payloads::blob_trigger,
        json::differences,
        scene::{DATA, METADATA, SimulatedDrop},
    },
};

/// How a drop arrives, which determines how it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// All blobs arrive in random order.
    Whole,
    /// One data file arrives minutes after the others.
    Late,
    /// A data file arrives damaged, and again whole.
    Repaired,
    /// A data file is damaged and stays so.
    Damaged,
    /// The job metadata says that there is no data.
    WithoutData,
}

impl Kind {
    fn random(rng: &mut Rng) -> Self {
        match rng.u32(..10) {
            0 => Self::Late,
            1 => Self::Repaired,
            2 => Self::Damaged,
            3 => Self::WithoutData,
            _ => Self::Whole,
        }
    }

    /// The reasons that the drop's last `drop.failed` may have; none if the drop must complete.
    fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::Whole | Self::Late | Self::Repaired => &[],
            // Damaged bytes may decompress to some text before the decompressor notices.
            Self::Damaged => &["damaged", "bad-row", "row-too-long"],
            Self::WithoutData => &["errors"],
        }
    }
}

/// A drop that was uploaded, or is being uploaded.
pub(crate) struct Uploaded {
    pub(crate) drop: SimulatedDrop,
    kind: Kind,
    /// The blobs that arrive later, and when.
    late: Vec<(Instant, String)>,
}

impl Soak {
    /// Uploads a drop in random order, with its directory if the tenant has one, and posts the events to random
    /// instances.
    pub(crate) async fn begin_drop(&mut self) {
        let rng = &mut self.rng;
        let (number, kind) = (rng.usize(..self.tenants.len()), Kind::random(rng));
        let options = SimulateOptions {
            users: rng.u64(10..400),
            weeks: 1,
            files: NonZeroUsize::new(rng.usize(1..4)).unwrap(),
            tenant: Some(self.tenants[number]),
            directory: number < JOINING,
            ..SimulateOptions::default()
        };
        let drop = self.scene.drop_like(options).await;
        let is_directory_first = self.rng.bool();
        if is_directory_first {
            self.upload_directory(&drop).await;
        }
        let late = self.upload_drop(&drop, kind).await;
        if !is_directory_first {
            self.upload_directory(&drop).await;
        }
        self.drops.push(Uploaded { drop, kind, late });
    }

    /// Uploads the blobs of a drop; returns those that arrive later.
    async fn upload_drop(&mut self, drop: &SimulatedDrop, kind: Kind) -> Vec<(Instant, String)> {
        let mut names = drop.names();
        self.rng.shuffle(&mut names);
        let data = names.iter().find(|name| *name != METADATA).unwrap().clone();
        let mut late = Vec::new();
        if matches!(kind, Kind::Late | Kind::Repaired) {
            late.push((Instant::now() + Duration::from_secs(self.rng.u64(5..120)), data.clone()));
        }
        for name in names {
            match kind {
                Kind::Late if name == data => continue,
                Kind::Damaged | Kind::Repaired if name == data => {
                    let mut bytes = fs::read(drop.simulated.drop.join(&name)).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x5a);
                    self.scene.write(&drop.path, &name, bytes).await;
                }
                Kind::WithoutData if name == METADATA => {
                    let text = fs::read(drop.simulated.drop.join(&name)).unwrap();
                    let mut metadata: Value = serde_json::from_slice(&text).unwrap();
                    metadata["Errors"] = "no consent".into();
                    self.scene.write(&drop.path, &name, metadata.to_string()).await;
                }
                _ => {
                    self.scene.put(drop, &name).await;
                }
            }
            self.post_event(self.scene.event(drop, &name));
        }
        late
    }

    /// Uploads the directory that was simulated with the drop, if there is one.
    async fn upload_directory(&mut self, drop: &SimulatedDrop) {
        if drop.simulated.directory.is_some() {
            let path = self.scene.upload_directory(drop).await;
            for name in [DATA, METADATA] {
                self.post_event(blob_trigger(&self.scene.address_of(&path.blob(name)), 1));
            }
        }
    }

    /// Uploads the blobs whose time has come, and posts their events.
    pub(crate) async fn upload_late_blobs(&mut self) {
        let now = Instant::now();
        for number in 0..self.drops.len() {
            let (due, later) = std::mem::take(&mut self.drops[number].late).into_iter().partition(|(at, _)| *at <= now);
            self.drops[number].late = later;
            let due: Vec<(Instant, String)> = due;
            for (_, name) in due {
                let drop = &self.drops[number].drop;
                self.scene.put(drop, &name).await;
                let (event, client) = (self.scene.event(drop, &name), self.any_client());
                tokio::spawn(async move { post(&client, &event).await });
            }
        }
    }

    /// Posts an event as the host does. Some events get lost.
    fn post_event(&mut self, event: Value) {
        if self.rng.u32(..20) == 0 {
            self.figures.lost_events += 1;
            return;
        }
        let client = self.any_client();
        tokio::spawn(async move { post(&client, &event).await });
    }

    /// A client of a random instance.
    fn any_client(&mut self) -> HostClient {
        self.instances[self.rng.usize(..INSTANCES)].host.client()
    }

    /// The drops whose last ending is not the one that they must have.
    pub(crate) fn missing_endings(&self) -> Vec<String> {
        let received = self.scene.receiver.received();
        let open = self.drops.iter().filter(|uploaded| !uploaded.has_its_ending(&received));
        open.map(|uploaded| format!("the ending of {:?} {}", uploaded.kind, uploaded.drop.path())).collect()
    }

    /// Checks the rows of every drop; returns their number, and the number of drops of each kind.
    pub(crate) async fn check_rows(&self) -> (usize, BTreeMap<Kind, usize>) {
        let received = self.scene.receiver.received();
        let (mut rows, mut kinds) = (0, BTreeMap::new());
        for uploaded @ Uploaded { drop, kind, .. } in &self.drops {
            *kinds.entry(*kind).or_default() += 1;
            if uploaded.completes() {
                let expected = self.scene.joined_rows_of(drop).await;
                let path = drop.path();
                assert_eq!(differences(expected.iter().map(String::as_str), received.rows(&path)), None, "{path}");
                rows += expected.len();
            }
        }
        (rows, kinds)
    }
}

impl Uploaded {
    /// Whether the drop must complete.
    pub(crate) fn completes(&self) -> bool {
        self.kind.reasons().is_empty()
    }

    /// Lets the blobs arrive now that would arrive later.
    pub(crate) fn make_due(&mut self) {
        self.late.iter_mut().for_each(|(at, _)| *at = Instant::now());
    }

    /// Whether the ending with the highest sequence is the one that the drop must have.
    fn has_its_ending(&self, received: &Received) -> bool {
        let path = self.drop.path();
        let of_drop = |kind: &str| kind.starts_with("viva.insights.drop.");
        let endings = received.log.iter().filter(|delivery| delivery.drop == path && of_drop(&delivery.kind));
        let last = endings.max_by_key(|ending| ending.sequence);
        let failed = received.drops.get(&path).map(|drop| drop.failed.as_slice()).unwrap_or_default();
        match last.map(|ending| ending.kind.as_str()) {
            Some("viva.insights.drop.completed") => self.completes() && self.late.is_empty(),
            Some("viva.insights.drop.failed") => {
                failed.last().is_some_and(|last| self.kind.reasons().contains(&last.reason.as_str()))
            }
            _ => false,
        }
    }
}

/// Posts an event up to five times, as the host does. The instance may be killed meanwhile.
async fn post(client: &HostClient, event: &Value) {
    for _ in 0..5 {
        if client.try_post(event).await.is_some_and(|answer| answer.is_success()) {
            return;
        }
    }
}
