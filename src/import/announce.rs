//! Tells receivers about definitions and deletions of attributes.

use tracing::warn;

use super::{ImportError, Pass, Stop};
use crate::{attributes::Definitions, error_chain::error_chain, message::Message, sink::SinkError};

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
    pub(super) async fn announce_deletions(&mut self) -> Result<(), Stop> {
        while let Some(deletion) = self.record.deletions.first().cloned() {
            let message = Message::attributes_deleted(self.tenant, deletion.sequence, &deletion.attribute);
            self.send_or_log(&message).await?;
            self.outdate_imports_of(&deletion.attribute).await?;
            self.update_record(|record| record.deletions.retain(|other| *other != deletion)).await?;
        }
        Ok(())
    }

    /// Lets cycles with a deleted attribute be imported again, even if the attribute is defined again as before:
    /// receivers have deleted its data.
    async fn outdate_imports_of(&self, attribute: &str) -> Result<(), Stop> {
        for mut import in self.runner.ledger.cycle_imports(self.tenant).await? {
            if import.attributes.iter().any(|imported| imported.name == attribute) && !import.rules.is_empty() {
                import.rules.clear();
                self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?;
            }
        }
        Ok(())
    }

    /// Sends a message. If the receiver rejects it for good, only logs that: sending it again would not help.
    async fn send_or_log(&self, message: &Message) -> Result<(), Stop> {
        match self.deliver(message).await {
            Err(Stop::Failed(ImportError::Sink(error @ SinkError::Rejected { .. }))) => {
                warn!(tenant.id = %self.tenant, "the sink rejected `{}`: {}", message.kind, error_chain(&error));
                Ok(())
            }
            result => result,
        }
    }
}
