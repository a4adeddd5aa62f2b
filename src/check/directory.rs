//! Tests whether the directory that a tenant's rows are joined to arrives.

use time::Duration;

use super::{Finding, Severity};
use crate::{
    clock, date::date_and_time, directory::KnownDirectory, drop::TenantId, error_chain::error_chain, ledger::Ledger,
};

/// A directory that is older than this is not joined.
const MAX_AGE: Duration = Duration::days(30);

/// Reports when the last complete directory of `tenant` arrived.
pub(super) async fn arrives(ledger: &Ledger, tenant: TenantId) -> Finding {
    let known = match ledger.directories(tenant).await {
        Ok(known) => known,
        Err(error) => {
            return Finding::new(
                Severity::Retry,
                "join",
                format!("read the directories of {tenant}: {}", error_chain(&error)),
            );
        }
    };
    finding_of(tenant, &known)
}

fn finding_of(tenant: TenantId, known: &[KnownDirectory]) -> Finding {
    let switch_on = "ask the customer to export BasicDataSet_v0.User_v1 as well (docs/customer.md); until then rows are \
                     joined to nobody";
    let complete = known.iter().filter(|directory| directory.is_complete).max_by_key(|directory| directory.ended);
    let Some(newest) = complete else {
        return match known.last() {
            Some(failed) => {
                let text = format!("no directory of {tenant} is complete; `{}` was set aside", failed.snapshot.path);
                Finding::fix("join", text)
                    .todo("correct the cause, which the finding about the ledger names, and replay it; until then rows are joined to nobody")
            }
            // As in a new set-up.
            None => {
                let text = format!("rows of {tenant} are joined to a directory, and none has arrived yet");
                Finding::new(Severity::Note, "join", text).todo(switch_on)
            }
        };
    };
    let (path, when) = (&newest.snapshot.path, date_and_time(newest.ended));
    let text = format!("the newest directory of {tenant} is `{path}`, complete since {when}");
    if clock::now() - newest.ended > MAX_AGE {
        return Finding::fix("join", format!("{text}: too old to be joined")).todo(switch_on);
    }
    Finding::ok("join", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{directory::DirectorySnapshot, drop::DropPath};

    fn known(is_complete: bool, days: i64) -> KnownDirectory {
        let path = DropPath::new("datasets", format!("{days}/AADUser"));
        let snapshot = DirectorySnapshot { path, id: None, versions: String::new() };
        KnownDirectory { snapshot, is_complete, ended: clock::now() - Duration::days(days) }
    }

    #[tokio::test]
    async fn a_tenant_without_a_directory_of_the_last_30_days_is_reported() {
        let tenant = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
        let text = |known: &[KnownDirectory]| {
            let finding = finding_of(tenant, known);
            (finding.severity, finding.text)
        };
        let (severity, said) = text(&[]);
        assert!(severity == Severity::Note && said.contains("none has arrived"), "{said}");
        let (severity, said) = text(&[known(false, 1)]);
        assert!(severity == Severity::Fix && said.contains("`datasets/1/AADUser` was set aside"), "{said}");
        let (severity, said) = text(&[known(true, 31)]);
        assert!(severity == Severity::Fix && said.contains("too old"), "{said}");
        let (severity, said) = text(&[known(true, 31), known(true, 7), known(false, 1)]);
        assert!(severity == Severity::Ok && said.contains("`datasets/7/AADUser`, complete since"), "{said}");
    }
}
