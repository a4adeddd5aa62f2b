use super::super::{Config, Settings};
use crate::telemetry::TelemetryConfig;

fn settings(telemetry: &[(&str, &str)]) -> Settings {
    let required = [
        ("DropStorage", "UseDevelopmentStorage=true"),
        ("TENANTS", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
        ("PRIVATE_KEYS", "file:///tmp"),
        ("DELIVER_TO", "stdout:"),
    ];
    required.iter().chain(telemetry).copied().collect()
}

fn read(telemetry: &[(&str, &str)]) -> TelemetryConfig {
    Config::read(&settings(telemetry)).unwrap().telemetry
}

fn urls(config: &TelemetryConfig) -> [Option<&str>; 2] {
    [&config.traces, &config.metrics].map(|endpoint| endpoint.as_ref().map(|endpoint| endpoint.url.as_str()))
}

#[test]
fn nothing_is_exported_without_an_endpoint() {
    for settings in [&[][..], &[("OTEL_SERVICE_NAME", "drops")], &[("OTEL_EXPORTER_OTLP_HEADERS", "key=1")]] {
        assert_eq!(urls(&read(settings)), [None, None], "{settings:?}");
    }
}

#[test]
fn the_paths_of_the_signals_are_appended_to_a_common_endpoint() {
    for (endpoint, prefix) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318"),
        ("https://otlp.example/api/v2", "https://otlp.example/api/v2"),
        ("https://otlp.example/api/v2/", "https://otlp.example/api/v2"),
    ] {
        let config = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
        let expected = [format!("{prefix}/v1/traces"), format!("{prefix}/v1/metrics")];
        assert_eq!(urls(&config), expected.each_ref().map(|url| Some(url.as_str())), "{endpoint}");
    }
}

#[test]
fn the_setting_of_a_signal_takes_precedence_over_the_common_one() {
    let config = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/t"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=common"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=of%20metrics, x-scope=1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ]);
    assert_eq!(urls(&config), [Some("http://127.0.0.1:9/t"), Some("http://127.0.0.1:4318/v1/metrics")]);
    let (traces, metrics) = (config.traces.unwrap(), config.metrics.unwrap());
    assert_eq!(traces.headers["api-key"], "common");
    assert_eq!(metrics.headers["api-key"], "of metrics");
    assert_eq!(metrics.headers["x-scope"], "1");
    assert_eq!((traces.timeout.as_millis(), metrics.timeout.as_millis()), (500, 3000));
    assert_eq!((traces.gzip, metrics.gzip), (false, true));
}

#[test]
fn a_signal_or_the_whole_export_can_be_switched_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let config = read(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]);
    assert_eq!(urls(&config), [Some("http://127.0.0.1:4318/v1/traces"), None]);
    assert_eq!(urls(&read(&[endpoint, ("OTEL_SDK_DISABLED", "true")])), [None, None]);
}

#[test]
fn the_sampler_and_the_resource_can_be_set() {
    let config = read(&[
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_SERVICE_NAME", "drops"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%2Ceu,service.name=other"),
    ]);
    assert!(config.sampler.parent_based);
    assert!((config.sampler.ratio - 0.25).abs() < f64::EPSILON);
    let of = |name: &str| config.resource.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(of("service.name"), Some("drops"));
    assert_eq!(of("deployment.environment.name"), Some("test,eu"));
    let ratio = |sampler| read(&[("OTEL_TRACES_SAMPLER", sampler)]).sampler.ratio;
    assert_eq!([ratio("always_on"), ratio("always_off"), ratio("traceidratio")].map(|r| r > 0.5), [true, false, true]);
}

#[test]
fn every_bad_value_is_reported_by_name_without_its_secrets() {
    let problems = [
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.example:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:hunter2@otlp.example"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "bad name=hunter2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both"),
        ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
        ("TELEMETRY_TENANTS", "yes"),
        ("WEBHOOK_TRACEPARENT", "yes"),
    ];
    let reported = Config::read(&settings(&problems)).unwrap_err().0;
    assert_eq!(reported.len(), problems.len(), "{reported:#?}");
    for (name, _) in problems {
        assert!(reported.iter().any(|problem| problem.starts_with(&format!("{name} is "))), "{name}: {reported:#?}");
    }
    assert!(!reported.iter().any(|problem| problem.contains("hunter2")), "{reported:#?}");
}

#[test]
fn an_unresolved_key_vault_reference_is_reported() {
    let reference = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/otlp)";
    let reported = Config::read(&settings(&[("OTEL_EXPORTER_OTLP_HEADERS", reference)])).unwrap_err().0;
    assert!(reported.iter().any(|problem| problem.contains("did not resolve")), "{reported:#?}");
}

#[test]
fn debug_output_has_no_headers() {
    let config = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otlp.example/hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2"),
    ]);
    assert!(!format!("{config:?}").contains("hunter2"));
}
