//! Tests whether a Service Bus entity has the properties that delivery depends on.

use std::time::Duration;

use super::{Finding, Severity};
use crate::{
    drop::TenantId,
    http_response::StatusClass,
    sink::{
        Sink,
        service_bus::{EntityProperties, Inspection, ServiceBus},
    },
};

const SUBJECT: &str = "sink";

/// An entity whose maximum size is smaller is reported. In MiB: 1 GB, the default of new entities.
const MIN_SIZE: u64 = 1024;

/// Reads the properties of the entity of the common sink (`None`), or of the sink of `tenant`, and compares them with
/// the settings. `give_up_after` is the time for which messages may be sent again.
pub(super) async fn properties_are_suitable(
    entity: &ServiceBus,
    tenant: Option<TenantId>,
    give_up_after: Duration,
) -> Vec<Finding> {
    let of = tenant.map_or_else(String::new, |tenant| format!(" of {tenant}"));
    let name = format!("{}{of}", entity.name());
    match entity.inspect().await {
        Ok(Inspection::Found(properties)) => {
            let findings = compare(&name, &properties, entity.has_tenant_sessions(), give_up_after);
            if findings.is_empty() {
                vec![Finding::ok(SUBJECT, format!("read the properties of {name}: they are suitable"))]
            } else {
                findings
            }
        }
        Ok(Inspection::Missing) => vec![
            Finding::fix(SUBJECT, format!("{name} does not exist"))
                .todo("create the queue or topic, with duplicate detection, or correct DELIVER_TO: vivadrop does not create it"),
        ],
        Ok(Inspection::NotPermitted) => vec![
            Finding::new(
                Severity::Note,
                SUBJECT,
                format!("may not read the properties of {name}; the right to send is enough to deliver"),
            )
            .todo(format!(
                "make sure that it has duplicate detection for at least {} and a maximum size of at least 1 GB; or grant the \
                 role Azure Service Bus Data Owner, or the right Manage of a key, while `vivadrop check` runs",
                length(give_up_after)
            )),
        ],
        Err(failed) => {
            let text = format!("read the properties of {name}: {}", failed.answer);
            vec![match failed.class {
                StatusClass::Transient => Finding::new(Severity::Retry, SUBJECT, text)
                    .todo("check that the namespace in DELIVER_TO exists and that this machine can connect to it"),
                StatusClass::Request | StatusClass::Service => {
                    Finding::fix(SUBJECT, text).todo("check that DELIVER_TO names a queue or topic of Service Bus")
                }
            }]
        }
    }
}

/// One finding for each unsuitable property of the entity called `name`.
fn compare(name: &str, properties: &EntityProperties, tenant_sessions: bool, give_up_after: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !properties.is_enabled {
        findings.push(
            Finding::fix(SUBJECT, format!("{name} is disabled for sending"))
                .todo("enable it: set its status to Active"),
        );
    }
    match properties.duplicate_detection {
        None => findings.push(Finding::fix(SUBJECT, format!("{name} has no duplicate detection")).todo(format!(
            "create it again with duplicate detection for at least {}, which cannot be enabled later; until then, its \
             consumers receive some messages twice and must drop repeated ids",
            length(give_up_after)
        ))),
        Some(window) if window < give_up_after => findings.push(
            Finding::fix(
                SUBJECT,
                format!(
                    "{name} drops repeated ids for {}, and messages may be sent again for GIVE_UP_AFTER, {}",
                    length(window),
                    length(give_up_after)
                ),
            )
            .todo(
                "set its duplicate detection window to at least GIVE_UP_AFTER (at most 7 days), or lower GIVE_UP_AFTER; \
                 until then, its consumers must drop repeated ids",
            ),
        ),
        Some(_) => {}
    }
    if let Some(size) = properties.max_size.filter(|&size| size < MIN_SIZE) {
        findings.push(
            Finding::fix(SUBJECT, format!("{name} has a maximum size of {size} MB, which a large drop fills"))
                .todo("set its maximum size to at least 1 GB"),
        );
    }
    match (properties.requires_session, tenant_sessions) {
        (true, false) => findings.push(
            Finding::fix(SUBJECT, format!("{name} requires sessions, and rejects messages without one"))
                .todo("add ?session=tenant to DELIVER_TO, or create the queue without sessions"),
        ),
        (false, true) => findings.push(
            Finding::new(
                Severity::Note,
                SUBJECT,
                format!("{name} requires no sessions: ?session=tenant has no effect on a queue"),
            )
            .todo(
                "create the queue with sessions, or remove ?session=tenant from DELIVER_TO; on a topic, require sessions in \
                 its subscriptions",
            ),
        ),
        (true, true) | (false, false) => {}
    }
    findings
}

/// A duration in the largest unit in which it is a whole number.
fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let unit = units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) if seconds / unit == 1 => format!("1 {}", name.trim_end_matches('s')),
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITABLE: EntityProperties = EntityProperties {
        duplicate_detection: Some(Duration::from_secs(3 * 86_400)),
        max_size: Some(1024),
        requires_session: false,
        is_enabled: true,
    };

    fn compared(properties: &EntityProperties, tenant_sessions: bool) -> Vec<String> {
        let findings = compare("the entity", properties, tenant_sessions, Duration::from_secs(3 * 86_400));
        assert!(findings.iter().all(|finding| finding.todo.is_some()), "{findings:?}");
        findings.iter().map(|finding| format!("{} {}", finding.severity.as_str(), finding.text)).collect()
    }

    #[test]
    fn each_unsuitable_property_is_a_finding() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        for (properties, tenant_sessions, expected) in [
            (SUITABLE, false, None),
            (EntityProperties { requires_session: true, ..SUITABLE }, true, None),
            (EntityProperties { max_size: None, ..SUITABLE }, false, None),
            (EntityProperties { is_enabled: false, ..SUITABLE }, false, Some("fix the entity is disabled for sending")),
            (
                EntityProperties { duplicate_detection: None, ..SUITABLE },
                false,
                Some("fix the entity has no duplicate detection"),
            ),
            (
                EntityProperties { duplicate_detection: minutes(10), ..SUITABLE },
                false,
                Some(
                    "fix the entity drops repeated ids for 10 minutes, and messages may be sent again for GIVE_UP_AFTER, 3 days",
                ),
            ),
            (
                EntityProperties { max_size: Some(512), ..SUITABLE },
                false,
                Some("fix the entity has a maximum size of 512 MB, which a large drop fills"),
            ),
            (
                EntityProperties { requires_session: true, ..SUITABLE },
                false,
                Some("fix the entity requires sessions, and rejects messages without one"),
            ),
            (SUITABLE, true, Some("note the entity requires no sessions: ?session=tenant has no effect on a queue")),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(compared(&properties, tenant_sessions), expected);
        }
    }

    #[test]
    fn all_unsuitable_properties_are_reported_together() {
        let none = EntityProperties {
            duplicate_detection: None,
            max_size: Some(1),
            requires_session: true,
            is_enabled: false,
        };
        assert_eq!(compared(&none, false).len(), 4);
    }

    #[test]
    fn a_length_has_the_largest_whole_unit() {
        for (seconds, text) in [(86_400, "1 day"), (259_200, "3 days"), (5400, "90 minutes"), (61, "61 seconds")] {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }
}
