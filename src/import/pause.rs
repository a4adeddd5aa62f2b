//! Forgets the failures of a tenant's imports while the tenant is paused: its time does not count towards
//! `GIVE_UP_AFTER`.

use crate::{
    drop::TenantId,
    ledger::{ImportsEntry, LedgerError},
    run::Runner,
};

impl Runner {
    /// Forgets the failures of a paused tenant, which is not tried while it is paused.
    pub(super) async fn forget_failures(&self, tenant: TenantId) -> Result<(), LedgerError> {
        match self.forget_unreadable_drops(tenant).await {
            // Nothing can be forgotten. A pass after the pause reports the record.
            Err(LedgerError::Invalid { .. } | LedgerError::NewerVersion { .. }) => {}
            result => result?,
        }
        self.forget_failed_passes(tenant).await
    }

    /// Forgets since when drops of a paused tenant cannot be read, because the time of the pause does not count towards
    /// `GIVE_UP_AFTER`. Writes nothing if there is nothing to forget.
    async fn forget_unreadable_drops(&self, tenant: TenantId) -> Result<(), LedgerError> {
        let mut record = self.ledger.tenant_imports(tenant).await?;
        while record.requests.iter().any(|request| request.failing_since.is_some()) {
            record.requests.iter_mut().for_each(|request| request.failing_since = None);
            if self.ledger.write_tenant_imports(tenant, &mut record).await? {
                break;
            }
            record = self.ledger.tenant_imports(tenant).await?;
        }
        for mut import in self.ledger.cycle_imports(tenant).await? {
            if import.failing_since.take().is_none() {
                continue;
            }
            match self.ledger.write_cycle_import(tenant, &mut import).await {
                // A pass that began before the pause has written the record. The next sweep looks at it again.
                Ok(()) | Err(LedgerError::ImportConflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets the failed passes of a paused tenant.
    async fn forget_failed_passes(&self, tenant: TenantId) -> Result<(), LedgerError> {
        let Some(entry) = self.ledger.imports_entry(tenant).await?.filter(|entry| entry.since.is_some()) else {
            return Ok(());
        };
        let forgotten = ImportsEntry { attempts: 0, since: None, error: None, ..entry.clone() };
        self.ledger.rewrite_imports_entry(&forgotten, Some(&entry.version)).await
    }
}
