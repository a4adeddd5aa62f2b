//! The blob with the copy of the entries of all drops and customers. [`crate::status`] defines its content.

use bytes::Bytes;

use super::{Ledger, LedgerError, paths};
use crate::store::{ReadWholeError, WriteIf, read_current};

/// The format version of the content. The blob's name contains it, so that two versions of vivadrop use different
/// blobs.
pub const LIST_COPY_VERSION: u64 = 1;

/// The largest copy, in bytes: about 100,000 drops. A larger one is neither written nor read.
pub const MAX_LIST_COPY_BYTES: usize = 8 << 20;

impl Ledger {
    /// Writes the copy. The last write wins.
    pub async fn write_list_copy(&self, content: Bytes) -> Result<(), LedgerError> {
        self.store.write(&self.blob(paths::list_copy()), content, WriteIf::Always).await?;
        Ok(())
    }

    /// Reads the copy that was written last; `None` if the ledger has no copy. Costs two requests.
    pub async fn read_list_copy(&self) -> Result<Option<Bytes>, LedgerError> {
        match read_current(&*self.store, &self.blob(paths::list_copy()), MAX_LIST_COPY_BYTES as u64).await {
            Ok(current) => Ok(current.map(|(_, content)| content)),
            Err(ReadWholeError::TooLarge { .. }) => Ok(None),
            Err(ReadWholeError::Store(error)) => Err(error.into()),
        }
    }
}
