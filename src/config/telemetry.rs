//! The settings of telemetry: variables of the OpenTelemetry specification, and two of vivadrop.
//!
//! The OpenTelemetry crates read only some of the variables, and ignore what they cannot parse. So all of them are read
//! here. A variable for one signal (`OTEL_EXPORTER_OTLP_TRACES_…`) takes precedence over the one for both.
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::{collections::BTreeMap, time::Duration};

use opentelemetry_sdk::metrics::Temporality;
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    parse::{FromSetting, ParseError},
    reader::Reader,
};
use crate::telemetry::{
    config::{OtlpEndpoint, TelemetryConfig},
    resource::standard_attributes,
    sampler::SamplerConfig,
};

/// The default of `OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds. The specification has 10 s, but a process has 8 s to
/// stop.
const TIMEOUT: &str = "2000";

/// Reads the settings of telemetry; nothing is exported unless an endpoint is set.
pub(super) fn telemetry(reader: &Reader<'_>) -> Option<TelemetryConfig> {
    // Every setting is read before the first `?`, so that one problem does not hide the others.
    let is_disabled: Option<bool> = reader.or_default("OTEL_SDK_DISABLED", "false");
    let both = Names {
        endpoint: "OTEL_EXPORTER_OTLP_ENDPOINT",
        protocol: "OTEL_EXPORTER_OTLP_PROTOCOL",
        headers: "OTEL_EXPORTER_OTLP_HEADERS",
        timeout: "OTEL_EXPORTER_OTLP_TIMEOUT",
        compression: "OTEL_EXPORTER_OTLP_COMPRESSION",
    };
    let traces = Names {
        endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        timeout: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        compression: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    };
    let metrics = Names {
        endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        headers: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        timeout: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        compression: "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
    };
    let traces = endpoint(reader, "OTEL_TRACES_EXPORTER", &traces, &both, "v1/traces");
    let metrics = endpoint(reader, "OTEL_METRICS_EXPORTER", &metrics, &both, "v1/metrics");
    let sampler = sampler(reader);
    let temporality = reader.or_default("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative");
    let service_name = reader.get("OTEL_SERVICE_NAME");
    let attributes = reader.or_default("OTEL_RESOURCE_ATTRIBUTES", "");
    let tenants = reader.or_default("TELEMETRY_TENANTS", "false");
    let webhook_traceparent = reader.or_default("WEBHOOK_TRACEPARENT", "false");

    let mut resource: BTreeMap<_, _> = standard_attributes(|name| reader.get(name)).into_iter().collect();
    let ResourceAttributes(attributes) = attributes?;
    resource.extend(attributes);
    resource.extend(service_name.map(|name| ("service.name".to_owned(), name.to_owned())));
    let is_enabled = !is_disabled?;
    Some(TelemetryConfig {
        traces: traces?.filter(|_| is_enabled),
        metrics: metrics?.filter(|_| is_enabled),
        sampler: sampler?,
        temporality: temporality?,
        resource: resource.into_iter().collect(),
        tenants: tenants?,
        webhook_traceparent: webhook_traceparent?,
    })
}

/// The names of the settings of an endpoint.
struct Names {
    endpoint: &'static str,
    protocol: &'static str,
    headers: &'static str,
    timeout: &'static str,
    compression: &'static str,
}

/// The endpoint of one signal; `Some(None)` if the signal is not exported.
fn endpoint(
    reader: &Reader<'_>,
    exporter: &str,
    own: &Names,
    both: &Names,
    path: &str,
) -> Option<Option<OtlpEndpoint>> {
    let own_url: Option<EndpointUrl> = reader.or_default(own.endpoint, EndpointUrl::NONE);
    let url: Option<EndpointUrl> = reader.or_default(both.endpoint, EndpointUrl::NONE);
    let exporter = reader.or_default(exporter, "otlp");
    for protocol in [own.protocol, both.protocol] {
        let _only_one: Option<Protocol> = reader.or_default(protocol, "http/protobuf");
    }
    let headers = first_of(reader, own.headers, both.headers, "");
    for name in [own.headers, both.headers] {
        reader.require_resolved(name);
    }
    let timeout = first_of(reader, own.timeout, both.timeout, TIMEOUT);
    let compression = first_of(reader, own.compression, both.compression, "none");

    let url = match (own_url?, url?) {
        (EndpointUrl(Some(url)), _) => Some(url),
        (_, EndpointUrl(Some(url))) => Some(below(&url, path)),
        _ => None,
    };
    let (Headers(headers), Milliseconds(timeout), Compression(gzip)) = (headers?, timeout?, compression?);
    let Exporter(is_exported) = exporter?;
    Some(url.filter(|_| is_exported).map(|url| OtlpEndpoint { url, headers, timeout, gzip }))
}

/// Reads both settings; returns the first one that is set, or else the default.
fn first_of<T: FromSetting>(reader: &Reader<'_>, own: &str, both: &str, default: &str) -> Option<T> {
    let (own_value, both_value) = (reader.or_default(own, default), reader.or_default(both, default));
    if reader.get(own).is_some() { both_value.and(own_value) } else { both_value }
}

/// The URL of a signal below that of the collector, as the specification joins them.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
fn sampler(reader: &Reader<'_>) -> Option<SamplerConfig> {
    let sampler = reader.or_default("OTEL_TRACES_SAMPLER", "parentbased_always_on");
    let ratio: Option<Ratio> = reader.or_default("OTEL_TRACES_SAMPLER_ARG", "1");
    let (SamplerName { parent_based, ratio: fixed }, Ratio(ratio)) = (sampler?, ratio?);
    Some(SamplerConfig { parent_based, ratio: fixed.unwrap_or(ratio) })
}

/// `OTEL_TRACES_SAMPLER`.
struct SamplerName {
    parent_based: bool,
    /// The fraction of traces, unless `OTEL_TRACES_SAMPLER_ARG` sets it.
    ratio: Option<f64>,
}

impl FromSetting for SamplerName {
    const EXPECTED: &'static str = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                                    parentbased_traceidratio";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let (parent_based, name) = text.strip_prefix("parentbased_").map_or((false, text), |name| (true, name));
        let ratio = match name {
            "always_on" => Some(1.0),
            "always_off" => Some(0.0),
            "traceidratio" => None,
            _ => return Err(ParseError::Unexpected),
        };
        Ok(Self { parent_based, ratio })
    }
}

/// `OTEL_TRACES_SAMPLER_ARG`.
struct Ratio(f64);

impl FromSetting for Ratio {
    const EXPECTED: &'static str = "a number from 0 to 1";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or(ParseError::Unexpected)
    }
}

/// The URL of an endpoint; `None` if the setting is not set.
struct EndpointUrl(Option<Url>);

impl EndpointUrl {
    /// The default, which stands for no endpoint: a blank setting counts as not set, so no setting has this value.
    const NONE: &'static str = "";
}

impl FromSetting for EndpointUrl {
    const EXPECTED: &'static str = "https://… or http://… without user, query and fragment";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if text == Self::NONE {
            return Ok(Self(None));
        }
        let url = Url::parse(text).map_err(|_| ParseError::Unexpected)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_endpoint = matches!(url.scheme(), "http" | "https") && url.has_host();
        if !is_endpoint || has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(ParseError::Unexpected);
        }
        Ok(Self(Some(url)))
    }
}

/// `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER`: whether the signal is exported.
struct Exporter(bool);

impl FromSetting for Exporter {
    const EXPECTED: &'static str = "otlp or none";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        match text {
            "otlp" => Ok(Self(true)),
            "none" => Ok(Self(false)),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// `OTEL_EXPORTER_OTLP_PROTOCOL`.
struct Protocol;

impl FromSetting for Protocol {
    const EXPECTED: &'static str = "http/protobuf, the only protocol of this version";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if text == "http/protobuf" { Ok(Self) } else { Err(ParseError::Unexpected) }
    }
}

/// `OTEL_EXPORTER_OTLP_COMPRESSION`: whether requests are compressed with gzip.
struct Compression(bool);

impl FromSetting for Compression {
    const EXPECTED: &'static str = "gzip or none";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        match text {
            "gzip" => Ok(Self(true)),
            "none" => Ok(Self(false)),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
impl FromSetting for Temporality {
    const EXPECTED: &'static str = "cumulative, delta or lowmemory";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        match text {
            "cumulative" => Ok(Self::Cumulative),
            "delta" => Ok(Self::Delta),
            "lowmemory" => Ok(Self::LowMemory),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// `OTEL_EXPORTER_OTLP_TIMEOUT`.
struct Milliseconds(Duration);

impl FromSetting for Milliseconds {
    const EXPECTED: &'static str = "a number of milliseconds from 1 to 3600000";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let millis = text.parse().ok().filter(|millis| (1..=3_600_000).contains(millis));
        millis.map(Duration::from_millis).map(Self).ok_or(ParseError::Unexpected)
    }
}

/// `OTEL_EXPORTER_OTLP_HEADERS`.
struct Headers(HeaderMap);

impl FromSetting for Headers {
    const EXPECTED: &'static str = "name=value, separated by commas, with percent-encoded values";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs(text)? {
            let name: HeaderName = name.parse().map_err(|_| ParseError::Unexpected)?;
            let mut value: HeaderValue = value.parse().map_err(|_| ParseError::Unexpected)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }
}

/// `OTEL_RESOURCE_ATTRIBUTES`.
struct ResourceAttributes(Vec<(String, String)>);

impl FromSetting for ResourceAttributes {
    const EXPECTED: &'static str = "name=value, separated by commas, with percent-encoded values";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        pairs(text).map(Self)
    }
}

/// Parses `name=value,name=value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').ok_or(ParseError::Unexpected)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| ParseError::Unexpected)?;
        let name = name.trim();
        if name.is_empty() { Err(ParseError::Unexpected) } else { Ok((name.to_owned(), value.into_owned())) }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
