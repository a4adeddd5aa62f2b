//! Tests settings that are valid, but dangerous or in conflict with this machine or the Functions host.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Finding, Severity};
use crate::{
    drop::{TenantId, tenant::Tenants},
    host::function_timeout::{InvalidHostJson, function_timeout},
};

/// Number of private keys that get a finding of their own.
const LISTED_KEYS: usize = 5;

/// A finding if rows that are not encrypted are delivered.
pub(super) fn plaintext_is_rejected(allow_plaintext: bool) -> Option<Finding> {
    let text = "read ALLOW_PLAINTEXT: it is true, so files that are not encrypted are delivered as well";
    allow_plaintext.then(|| {
        Finding::new(Severity::Note, "plain", text)
            .todo("remove it, unless this deployment is for sample data: Microsoft encrypts every drop")
    })
}

/// A finding if the drops of `tenant` wait.
pub(super) fn is_not_paused(tenants: &Tenants, tenant: TenantId) -> Option<Finding> {
    tenants.is_paused(tenant).then(|| {
        Finding::new(Severity::Note, "tenants", format!("the tenant {tenant} is paused in TENANTS: its drops wait"))
            .todo("remove `paused` when they should be delivered")
    })
}

/// Findings for the private keys in `folder` that other users of this machine may read or write. Only Unix has these
/// permissions.
pub(super) fn private_keys_are_private(folder: &Path) -> Vec<Finding> {
    let exposed = match exposed_keys(folder) {
        Ok(exposed) => exposed,
        Err(error) => {
            let text = format!("listed the private keys in `{}`: {error}", folder.display());
            return vec![
                Finding::fix("key", text).todo("give this user permission to read the folder of PRIVATE_KEYS"),
            ];
        }
    };
    let mut findings = Vec::new();
    for (file, mode) in exposed.iter().take(LISTED_KEYS) {
        let file = file.display();
        let text = format!("other users of this machine may read or write the private key `{file}` (mode {mode:o})");
        findings.push(Finding::fix("key", text).todo(format!("run `chmod 600 '{file}'`")));
    }
    let more = exposed.len().saturating_sub(LISTED_KEYS);
    if more > 0 {
        let text = format!("other users of this machine may read or write {more} more private keys");
        findings.push(Finding::fix("key", text).todo(format!("run `chmod 600 '{}'/*.pem`", folder.display())));
    }
    findings
}

/// The PEM files whose group or other users may read or write them, with their mode.
#[cfg(unix)]
fn exposed_keys(folder: &Path) -> std::io::Result<Vec<(PathBuf, u32)>> {
    use std::os::unix::fs::PermissionsExt;

    /// Read and write, for the group and for others.
    const BY_OTHERS: u32 = 0o066;
    let mut exposed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("pem")) {
            continue;
        }
        // The permissions of the file to which a link leads count. A file that was deleted meanwhile is not exposed.
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
            && metadata.permissions().mode() & BY_OTHERS != 0
        {
            exposed.push((path, metadata.permissions().mode() & 0o777));
        }
    }
    exposed.sort();
    Ok(exposed)
}

#[cfg(not(unix))]
fn exposed_keys(_: &Path) -> std::io::Result<Vec<(PathBuf, u32)>> {
    Ok(Vec::new())
}

/// Compares `DEADLINE` with `functionTimeout` of the `host.json` in `folder`, if there is one: the host kills the
/// process when an event takes longer.
pub(super) fn deadline_is_before_function_timeout(deadline: Duration, folder: &Path) -> Option<Finding> {
    let timeout = match function_timeout(folder) {
        Ok(timeout) => timeout?,
        Err(InvalidHostJson(error)) => {
            return Some(Finding::fix("deadline", format!("read host.json: it is not JSON: {error}")));
        }
    };
    let text = format!(
        "compared two limits: DEADLINE is {} s, and functionTimeout in host.json is {} s",
        deadline.as_secs_f64(),
        timeout.as_secs()
    );
    if deadline < timeout {
        return Some(Finding::ok("deadline", text));
    }
    Some(Finding::fix("deadline", text).todo(
        "set DEADLINE a few minutes below functionTimeout: otherwise the host ends the process in the middle of a run",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_compared_only_if_there_is_a_host_json_with_a_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let check = || deadline_is_before_function_timeout(Duration::from_secs(1800), folder.path());
        assert_eq!(check(), None);
        for (text, severity) in [
            (r#"{"version": "2.0"}"#, None),
            (r#"{"functionTimeout": "-1"}"#, None),
            (r#"{"functionTimeout": "00:30:01"}"#, Some(Severity::Ok)),
            (r#"{"functionTimeout": "00:30:00"}"#, Some(Severity::Fix)),
            ("{", Some(Severity::Fix)),
        ] {
            fs::write(folder.path().join("host.json"), text).unwrap();
            assert_eq!(check().map(|finding| finding.severity), severity, "{text}");
        }
    }
}
