//! The resource: which process the telemetry is about.

use uuid::Uuid;

/// The standard attributes, by the semantic conventions of OpenTelemetry, from the environment of the process.
/// `variable` returns an environment variable by its name. Azure Functions sets `WEBSITE_SITE_NAME` and
/// `WEBSITE_INSTANCE_ID`.
pub(crate) fn standard_attributes<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Vec<(String, String)> {
    let site = variable("WEBSITE_SITE_NAME");
    let instance = variable("WEBSITE_INSTANCE_ID");
    let on_azure = |value: &'static str| site.is_some().then_some(value);
    let process_instance = instance.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
    let attributes = [
        ("service.name", Some("vivadrop")),
        ("service.version", Some(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", Some(process_instance.as_str())),
        ("cloud.provider", on_azure("azure")),
        ("cloud.platform", on_azure("azure.functions")),
        ("cloud.region", site.and(variable("REGION_NAME"))),
        ("faas.name", site),
        ("faas.instance", site.and(instance)),
    ];
    let attributes = attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    attributes.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_function_app_is_described_by_its_environment() {
        let environment = BTreeMap::from([
            ("WEBSITE_SITE_NAME", "contoso-drops"),
            ("WEBSITE_INSTANCE_ID", "8f1e"),
            ("REGION_NAME", "West Europe"),
        ]);
        let attributes: BTreeMap<_, _> =
            standard_attributes(|name| environment.get(name).copied()).into_iter().collect();
        for (name, value) in [
            ("service.name", "vivadrop"),
            ("service.instance.id", "8f1e"),
            ("cloud.provider", "azure"),
            ("cloud.platform", "azure.functions"),
            ("cloud.region", "West Europe"),
            ("faas.name", "contoso-drops"),
            ("faas.instance", "8f1e"),
        ] {
            assert_eq!(attributes[name], value, "{name}");
        }
    }

    #[test]
    fn a_process_elsewhere_has_an_id_of_its_own_and_no_cloud() {
        let of = || standard_attributes(|_| None).into_iter().collect::<BTreeMap<_, _>>();
        let names: Vec<_> = of().into_keys().collect();
        assert_eq!(names, ["service.instance.id", "service.name", "service.version"]);
        assert_ne!(of()["service.instance.id"], of()["service.instance.id"]);
    }
}
