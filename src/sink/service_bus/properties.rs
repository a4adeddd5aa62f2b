//! The properties of an entity, as the management interface describes them in Atom XML.
//! <https://learn.microsoft.com/rest/api/servicebus/get-entity>

use std::time::Duration;

use serde::Deserialize;

/// The properties of a queue or topic that matter for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityProperties {
    /// For how long the entity drops repeated ids; `None` without duplicate detection.
    pub duplicate_detection: Option<Duration>,
    /// The maximum size of the entity, in MiB, if the service states it.
    pub max_size: Option<u64>,
    /// Whether every message needs a session. Always false for a topic: its subscriptions have that property.
    pub requires_session: bool,
    /// Whether the entity accepts messages.
    pub is_enabled: bool,
}

/// The response describes no entity, or not in the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownForm;

#[derive(Deserialize)]
struct Atom {
    /// Absent from the feed with which the service answers for a path that is no entity.
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "QueueDescription", alias = "TopicDescription")]
    description: Description,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(default)]
    requires_duplicate_detection: bool,
    duplicate_detection_history_time_window: Option<String>,
    max_size_in_megabytes: Option<u64>,
    #[serde(default)]
    requires_session: bool,
    status: Option<String>,
}

impl EntityProperties {
    /// Parses the response to a request for an entity. `Ok(None)`: there is no such entity.
    pub(super) fn parse(atom: &[u8]) -> Result<Option<Self>, UnknownForm> {
        let atom: Atom = azure_core::xml::from_xml(atom).map_err(|_| UnknownForm)?;
        let Some(Content { description }) = atom.content else { return Ok(None) };
        let duplicate_detection = if description.requires_duplicate_detection {
            let window = description.duplicate_detection_history_time_window.as_deref();
            Some(window.and_then(parse_duration).ok_or(UnknownForm)?)
        } else {
            None
        };
        Ok(Some(Self {
            duplicate_detection,
            max_size: description.max_size_in_megabytes,
            requires_session: description.requires_session,
            is_enabled: !matches!(description.status.as_deref(), Some("Disabled" | "SendDisabled")),
        }))
    }
}

/// Parses a duration of days, hours, minutes and seconds in ISO 8601, such as `P1DT2H` or `PT10M`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let days = sum(date, &[('D', 86_400.0)])?;
    let seconds = sum(time, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?;
    Duration::try_from_secs_f64(days + seconds).ok()
}

/// The sum of numbers that each end in one of the `units`.
fn sum(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..end].parse().ok()?;
        let unit = text[end..].chars().next()?;
        sum += number * units.iter().find(|(name, _)| *name == unit)?.1;
        text = &text[end + unit.len_utf8()..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, properties: &str) -> String {
        format!(
            r#"<?xml version="1.0" encoding="utf-8"?><entry xmlns="http://www.w3.org/2005/Atom"><id>https://n/rows</id>
            <title type="text">rows</title><link rel="self" href="https://n/rows"/><content type="application/xml">
            <{kind} xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
             xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><LockDuration>PT1M</LockDuration>{properties}
            <CountDetails xmlns:d2p1="http://x"><d2p1:ActiveMessageCount>0</d2p1:ActiveMessageCount></CountDetails>
            </{kind}></content></entry>"#
        )
    }

    #[test]
    fn the_properties_of_queues_and_topics_are_read() {
        let queue = entry(
            "QueueDescription",
            "<MaxSizeInMegabytes>1024</MaxSizeInMegabytes><RequiresDuplicateDetection>true</RequiresDuplicateDetection>\
             <RequiresSession>true</RequiresSession><Status>SendDisabled</Status>\
             <DuplicateDetectionHistoryTimeWindow>P3DT30M</DuplicateDetectionHistoryTimeWindow>",
        );
        let expected = EntityProperties {
            duplicate_detection: Some(Duration::from_secs(3 * 86_400 + 1800)),
            max_size: Some(1024),
            requires_session: true,
            is_enabled: false,
        };
        assert_eq!(EntityProperties::parse(queue.as_bytes()), Ok(Some(expected)));

        let topic = entry(
            "TopicDescription",
            "<DuplicateDetectionHistoryTimeWindow>PT10M</DuplicateDetectionHistoryTimeWindow>\
             <RequiresDuplicateDetection>false</RequiresDuplicateDetection><Status>Active</Status>",
        );
        let expected =
            EntityProperties { duplicate_detection: None, max_size: None, requires_session: false, is_enabled: true };
        assert_eq!(EntityProperties::parse(topic.as_bytes()), Ok(Some(expected)));
    }

    #[test]
    fn a_feed_is_no_entity() {
        let feed =
            r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Publicly Listed Services</title></feed>"#;
        assert_eq!(EntityProperties::parse(feed.as_bytes()), Ok(None));
        assert_eq!(EntityProperties::parse(b"<html>"), Err(UnknownForm));
        assert_eq!(EntityProperties::parse(b""), Err(UnknownForm));
        let other = entry("SubscriptionDescription", "");
        assert_eq!(EntityProperties::parse(other.as_bytes()), Err(UnknownForm));
    }

    #[test]
    fn a_window_is_an_iso_8601_duration() {
        for (text, seconds) in [
            ("PT10M", 600.0),
            ("P7D", 604_800.0),
            ("P1DT2H3M4.5S", 93_784.5),
            ("P10675199DT2H48M5.4775807S", 922_337_203_685.477_6),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "10", "10M", "PT10", "P10M", "PT1D", "P-1D", "P1.2.3D"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
