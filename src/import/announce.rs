//! Tells receivers about definitions and deletions of attributes.

use tracing::warn;

use super::{ImportError, Pass, Stop};
use crate::{
    attributes::{Attribute, Definitions},
    error_chain::error_chain,
    ledger::KnownRanges,
    message::Message,
    sink::SinkError,
};

impl Pass<'_> {
    /// Sends the definitions in force, unless receivers have them.
    pub(super) async fn announce_definitions(&mut self, definitions: &Definitions) -> Result<(), Stop> {
        let accepted = self.record.definitions.as_ref().filter(|accepted| !accepted.is_announced);
        let Some(number) = accepted.map(|accepted| accepted.number) else { return Ok(()) };
        let message = Message::attributes_defined(self.tenant, self.record.revision, number, definitions);
        self.send_or_log(&message).await?;
        self.update_record(|record| {
            if let Some(accepted) = record.definitions.as_mut().filter(|accepted| accepted.number == number) {
                accepted.is_announced = true;
            }
        })
        .await?;
        Ok(())
    }

    /// Sends the deletions that receivers have not been told about.
    pub(super) async fn announce_deletions(&mut self, definitions: &Definitions) -> Result<(), Stop> {
        while let Some(deletion) = self.record.deletions.first().cloned() {
            let message = Message::attributes_deleted(self.tenant, deletion.sequence, &deletion.attribute);
            let is_deleted = self.send_or_log(&message).await?;
            self.outdate_imports_of(&deletion.attribute, definitions, is_deleted).await?;
            self.update_record(|record| record.deletions.retain(|other| *other != deletion)).await?;
        }
        Ok(())
    }

    /// Lets cycles with a deleted attribute be imported again, even if the attribute is defined again as before:
    /// receivers have deleted its data. If they have acknowledged that (`is_deleted`), its ranges are no longer known,
    /// unless an attribute still has its metric: a new name alone must not make other ranges of the same metric safe.
    async fn outdate_imports_of(
        &self,
        attribute: &str,
        definitions: &Definitions,
        is_deleted: bool,
    ) -> Result<(), Stop> {
        let columns: Vec<&str> = definitions.attributes.iter().flat_map(Attribute::columns).collect();
        let is_known = |known: &KnownRanges| !is_deleted || known.name != attribute || known.have_any_of(&columns);
        for mut import in self.runner.ledger.cycle_imports(self.tenant).await? {
            let has_attribute = import.attributes.iter().any(|imported| imported.name == attribute);
            let is_outdated = has_attribute && !import.rules.is_empty();
            if is_outdated || !import.known_ranges.iter().all(is_known) {
                if is_outdated {
                    import.rules.clear();
                }
                import.known_ranges.retain(is_known);
                self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?;
            }
        }
        Ok(())
    }

    /// Sends a message. If the receiver rejects it for good, only logs that, and returns false: sending it again would
    /// not help.
    async fn send_or_log(&self, message: &Message) -> Result<bool, Stop> {
        match self.deliver(message).await {
            Err(Stop::Failed(ImportError::Sink(error @ SinkError::Rejected { .. }))) => {
                warn!(tenant.id = %self.tenant, "the sink rejected `{}`: {}", message.kind, error_chain(&error));
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }
}
