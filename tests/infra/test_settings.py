"""Checks that source, README and template have the same settings with the same defaults."""

import re
import unittest

from . import given
from .arm import Template

# Settings of the Functions host and of Application Insights.
PLATFORM = {
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__credential",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
}

# Settings that the template does not need, because it uses the app's managed identity: connection strings, client ids and
# client secrets.
ALTERNATIVES = {
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "DropStorage",
    "DropStorage__clientId",
    "ServiceBus",
    "SinkStorage",
    "SinkStorage__blobServiceUri",
    "SinkStorage__clientId",
}


def in_the_readme():
    """The settings in the table of the README, with their defaults."""
    readme = (given.ROOT / "README.md").read_text()
    table = readme.split("\n## Settings\n", 1)[1].split("\n## ", 1)[0]
    settings = {}
    for line in table.splitlines():
        if not line.startswith("| `"):
            continue
        named, default, _ = (cell.strip() for cell in line.strip("|").split("|")[:3])
        names = re.findall(r"`([^`]+)`", named)
        defaults = re.findall(r"`([^`]*)`", default)
        for index, name in enumerate(names):
            # `DropStorage__blobServiceUri` (`__queueServiceUri`, `__clientId`) stands for three settings with one prefix.
            full = names[0].split("__")[0] + name if name.startswith("__") else name
            settings[full] = defaults[min(index, len(defaults) - 1)] if defaults else None
    return settings


def in_the_source():
    """The names of settings in the source."""
    source = "".join(path.read_text() for path in [given.ROOT / "src/config.rs", *(given.ROOT / "src/config").glob("*.rs")])
    return set(re.findall(r'"([A-Z][A-Z]+(?:_[A-Z]+)+|TENANTS|DECODERS|DEADLINE|DIRECTORY)"', source))


def in_the_template():
    """The app settings that the template deploys, with their values."""
    template = Template(given.PARTNER, given.EVERYTHING[given.PARTNER])
    (config,) = [each for each in template.resources() if each["type"] == "Microsoft.Web/sites/config"]
    return config["properties"]


class SettingsTable(unittest.TestCase):
    def test_settings_of_the_template_are_in_the_readme(self):
        self.assertEqual(set(in_the_template()) - PLATFORM - set(in_the_readme()), set())

    def test_settings_of_the_readme_are_in_the_template(self):
        self.assertEqual(set(in_the_readme()) - ALTERNATIVES - set(in_the_template()), set())

    def test_settings_of_the_readme_are_in_the_source(self):
        named = {name for name in in_the_readme() if name.isupper()}
        self.assertEqual(named - in_the_source(), set())

    def test_defaults_of_the_template_are_those_of_the_readme(self):
        readme = in_the_readme()
        for name, value in Template(given.PARTNER).parameters["settings"]["defaultValue"].items():
            if value:
                self.assertEqual(value, readme[name], name)
        for parameter, name in (("stateContainer", "STATE_CONTAINER"), ("vivaApiUrl", "VIVA_API_URL")):
            self.assertEqual(Template(given.PARTNER).parameters[parameter]["defaultValue"], readme[name])

    def test_the_parameter_settings_cannot_override_other_parameters(self):
        values = {**given.LEAST[given.PARTNER], "settings": {"TENANTS": "other", "BATCH_ROWS": "50"}}
        (config,) = [
            each for each in Template(given.PARTNER, values).resources() if each["type"] == "Microsoft.Web/sites/config"
        ]
        self.assertEqual(config["properties"]["BATCH_ROWS"], "50")
        self.assertEqual(config["properties"]["TENANTS"], values["tenants"])

    def test_secrets_are_key_vault_references(self):
        given_settings = in_the_template()
        for name in ("WEBHOOK_SECRET", "PARTNER_APP_SECRET"):
            self.assertRegex(given_settings[name], r"^@Microsoft\.KeyVault\(SecretUri=https://vault-\w+\.vault\.azure\.net/secrets/")


if __name__ == "__main__":
    unittest.main()
