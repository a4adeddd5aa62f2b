//! Sends the people of an import, and its end.

use std::{
    iter::Peekable,
    ops::Range,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;
use tracing::warn;

use super::{ImportError, Pass, Stop};
use crate::{
    attributes::{CycleReport, PersonReport},
    batch::BatchLimits,
    directory::Directory,
    error_chain::error_chain,
    ledger::{CycleImport, ImportState},
    message::{ImportFacts, ImportFailure, Message, RangeCounts},
    sink::{CheckedDeliveryError, SinkError, deliver_checked},
};

/// How long a check of the stored definitions is valid for batches of people.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two checkpoints of an import.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// When a pass has last checked the version of the stored definitions.
#[derive(Debug, Default)]
pub(super) struct LastCheck(Mutex<Option<Instant>>);

impl LastCheck {
    fn is_recent(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < CHECK_EVERY)
    }

    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Pass<'_> {
    /// Delivers a message, unless the pass is preempted. Before every try, makes sure that the definitions are still
    /// the same.
    pub(super) async fn deliver(&self, message: &Message) -> Result<(), Stop> {
        let sent = tokio::select! {
            biased;
            sent = deliver_checked(&*self.receiver.sink, message, || self.check(message)) => sent,
            () = self.permit.is_over() => return Err(ImportError::Preempted.into()),
        };
        sent.map_err(|error| match error {
            CheckedDeliveryError::Sink(error) => error.into(),
            CheckedDeliveryError::Check(stop) => stop,
        })?;
        self.is_acknowledged.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Delivers the people `range`; returns its end.
    async fn deliver_people(&self, range: Range<u64>, message: Message) -> Result<u64, Stop> {
        self.deliver(&message).await.map(|()| range.end)
    }

    async fn check(&self, message: &Message) -> Result<(), Stop> {
        if self.receiver.must_stop() {
            return Err(self.receiver.breaker_error(message).into());
        }
        // Receivers apply people only when their import completes, so a recent check is enough for a batch of people.
        if message.kind == Message::PEOPLE && self.checked.is_recent() {
            return Ok(());
        }
        let current = self.runner.ledger.definitions_version(self.tenant).await?;
        self.checked.set();
        if current == self.stored { Ok(()) } else { Err(Stop::Changed) }
    }

    /// Sends the people of an import from the recorded one on, and records how many the sink has acknowledged.
    pub(super) async fn send_people(
        &self,
        import: &mut CycleImport,
        facts: &ImportFacts,
        report: &CycleReport<'_>,
        directory: Option<&Directory>,
    ) -> Result<(), Stop> {
        let limits = self.runner.tenant_configs.of(self.tenant).limits;
        let batches = PeopleBatches::new(report, facts, directory, limits.batch, import.next_person);
        let deliveries = batches.map(|(range, message)| self.deliver_people(range, message).boxed());
        let mut acknowledged = stream::iter(deliveries).buffered(limits.in_flight.get()).boxed();
        let mut written = Instant::now();
        // Checkpoints never pass a person whose message is not acknowledged, because `buffered` yields in order.
        while let Some(end) = acknowledged.next().await {
            let end = match end {
                Ok(end) => end,
                Err(stop) => {
                    self.runner.ledger.write_cycle_import(self.tenant, import).await?;
                    return Err(stop);
                }
            };
            import.next_person = end;
            import.failing_since = None;
            if written.elapsed() >= CHECKPOINT_EVERY {
                self.runner.ledger.write_cycle_import(self.tenant, import).await?;
                written = Instant::now();
            }
        }
        Ok(())
    }

    /// Records the end of an import with its number, and tells receivers.
    pub(super) async fn end(&mut self, import: &mut CycleImport) -> Result<(), Stop> {
        import.sequence = Some(self.sequence_of(import).await?);
        import.announced = false;
        self.runner.ledger.write_cycle_import(self.tenant, import).await?;
        self.announce_end(import).await
    }

    /// Ends an import with a failure.
    pub(super) async fn fail(&mut self, import: &mut CycleImport, reason: &str, message: String) -> Result<(), Stop> {
        import.state = ImportState::Failed;
        (import.reason, import.message) = (Some(reason.to_owned()), Some(message));
        self.end(import).await
    }

    /// Tells receivers about the recorded end of an import.
    pub(super) async fn announce_end(&mut self, import: &mut CycleImport) -> Result<(), Stop> {
        let message = self.end_message(import);
        match self.deliver(&message).await {
            Err(Stop::Failed(ImportError::Sink(error @ SinkError::Rejected { .. }))) => {
                if import.state == ImportState::Completed {
                    return Box::pin(self.fail(import, "refused", error_chain(&error))).await;
                }
                // If the sink rejects even this message, the import has failed all the same.
                warn!(tenant.id = %self.tenant, "the sink rejected `{}`: {}", message.kind, error_chain(&error));
            }
            result => result?,
        }
        import.announced = true;
        import.failing_since = None;
        self.runner.ledger.write_cycle_import(self.tenant, import).await?;
        self.note_end(import);
        Ok(())
    }

    fn end_message(&self, import: &CycleImport) -> Message {
        let sequence = import.sequence.unwrap_or_default();
        match import.facts(self.tenant) {
            Some(facts) if import.state == ImportState::Completed => {
                let counts = import.attributes.iter().map(|attribute| (attribute.name.as_str(), attribute.counts));
                let (people, counts) = (import.people.unwrap_or_default(), RangeCounts(counts.collect()));
                Message::attributes_completed(&facts, sequence, people, &counts)
            }
            _ => {
                let failure = ImportFailure {
                    tenant_id: self.tenant,
                    drop: import.drop.clone(),
                    sequence,
                    program: import.program.clone(),
                    cycle: import.cycle.clone(),
                    revision: import.revision,
                    reason: import.reason.clone().unwrap_or_default(),
                    message: import.message.clone().unwrap_or_default(),
                };
                Message::attributes_failed(&failure, self.receiver.sink.largest_message())
            }
        }
    }
}

/// Cuts people into messages. The same people from the same start give the same messages, as long as the limits are the
/// same.
struct PeopleBatches<'a, I: Iterator<Item = PersonReport<'a>>> {
    people: Peekable<I>,
    report: &'a CycleReport<'a>,
    facts: &'a ImportFacts,
    directory: Option<&'a Directory>,
    limits: BatchLimits,
    /// The size of a message without people.
    envelope: usize,
    next: u64,
    /// The text of the next person, if it did not fit into the last message.
    pending: Vec<u8>,
    entry: Vec<u8>,
}

impl<'a> PeopleBatches<'a, Box<dyn Iterator<Item = PersonReport<'a>> + Send + 'a>> {
    fn new(
        report: &'a CycleReport<'a>,
        facts: &'a ImportFacts,
        directory: Option<&'a Directory>,
        limits: BatchLimits,
        first: u64,
    ) -> Self {
        let people: Box<dyn Iterator<Item = PersonReport<'a>> + Send + 'a> =
            Box::new(report.people().skip(usize::try_from(first).unwrap_or(usize::MAX)));
        let envelope = Message::attributes(facts, u64::MAX..u64::MAX, b"").body.len();
        let (pending, entry) = (Vec::new(), Vec::new());
        Self { people: people.peekable(), report, facts, directory, limits, envelope, next: first, pending, entry }
    }
}

impl<'a, I: Iterator<Item = PersonReport<'a>>> PeopleBatches<'a, I> {
    /// Formats the next person, unless that was done.
    fn format_next(&mut self) -> bool {
        if !self.pending.is_empty() {
            return true;
        }
        let Some(person) = self.people.next() else { return false };
        self.entry.clear();
        match self.directory {
            Some(directory) => directory.append(directory.find_by_id(person.id), &mut self.entry),
            None => self.entry.extend_from_slice(b"null"),
        }
        self.report.append_person(&person, &self.entry, &mut self.pending);
        true
    }
}

impl<'a, I: Iterator<Item = PersonReport<'a>>> Iterator for PeopleBatches<'a, I> {
    type Item = (Range<u64>, Message);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.next;
        let mut text = Vec::new();
        while self.format_next() {
            let bytes = text.len() + 1 + self.pending.len();
            let is_full = self.next - first == self.limits.rows.get() as u64
                || bytes > self.limits.bytes.get()
                || self.limits.message.is_some_and(|limit| self.envelope + bytes > limit.get());
            if is_full && !text.is_empty() {
                break;
            }
            if !text.is_empty() {
                text.push(b',');
            }
            text.append(&mut self.pending);
            self.next += 1;
        }
        let range = first..self.next;
        (!range.is_empty()).then(|| (range.clone(), Message::attributes(self.facts, range, &text)))
    }
}
