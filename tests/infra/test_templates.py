"""Tests of all templates: errors that Azure would report, roles, secrets, and storage security."""

import json
import re
import unittest

from . import given
from .arm import Template, calls_in, parse, walk

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "12338af0-0e69-4776-bea7-57ae8d297424": "Key Vault Crypto User",
    "14b46e9e-c2b7-41b4-b07b-48a6ebf60603": "Key Vault Crypto Officer",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "73c42c96-874c-492b-b04d-ab87d138a893": "Log Analytics Reader",
    "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Azure Service Bus Data Sender",
}

# All roles that the templates assign: identity, scope, role. The test fails if a template assigns another one.
GRANTED = {
    given.PARTNER: {
        ("app", "drops", "Storage Blob Data Owner"),
        ("app", "drops", "Storage Queue Data Contributor"),
        ("app", "host", "Storage Blob Data Owner"),
        ("app", "host", "Storage Queue Data Contributor"),
        ("app", "host", "Storage Table Data Contributor"),
        ("app", "vault", "Key Vault Crypto User"),
        ("app", "vault", "Key Vault Secrets User"),
        ("app", "insights", "Monitoring Metrics Publisher"),
        ("app", "entity", "Azure Service Bus Data Sender"),
        ("topic", "host", "Storage Blob Data Contributor"),
        ("watch", "workspace", "Log Analytics Reader"),
        ("partner application", "vault", "Key Vault Crypto User"),
        ("operator", "vault", "Key Vault Crypto Officer"),
        ("operator", "vault", "Key Vault Secrets User"),
        ("operator", "drops", "Storage Blob Data Owner"),
        ("operator", "drops", "Storage Queue Data Message Sender"),
        ("operator", "entity", "Azure Service Bus Data Sender"),
    },
    given.SUBSCRIPTION: set(),
    given.MANAGED_APP: {
        ("application", "staging", "Storage Blob Data Contributor"),
        ("factory", "staging", "Storage Blob Data Contributor"),
        ("factory", "vault", "Key Vault Secrets User"),
    },
}
PRINCIPALS = {
    f"{given.OBJECT}01": "application",
    f"{given.OBJECT}02": "partner application",
    f"{given.OBJECT}03": "operator",
    "/sites/": "app",
    "/systemTopics/": "topic",
    "/workflows/": "watch",
    "/factories/": "factory",
}
SCOPES = {
    "/storageAccounts/drops": "drops",
    "/storageAccounts/host": "host",
    "/storageAccounts/staging": "staging",
    "/vaults/": "vault",
    "/components/": "insights",
    "/workspaces/": "workspace",
    "/queues/": "entity",
}


def named(table, text):
    """The value in `table` of the first key that `text` contains."""
    return next(name for part, name in table.items() if part in str(text))


class AllTemplates(unittest.TestCase):
    def test_parameters_variables_and_functions_exist(self):
        for template in given.templates():
            with self.subTest(template.path.name):
                template.resources()
                template.outputs()
                for name in template.variables:
                    template.evaluate(template.variables[name])

    def test_every_parameter_and_variable_is_used(self):
        for path in given.LEAST:
            outer = Template(path)
            for template in [outer, *outer.nested()]:
                used = {"parameters": set(), "variables": set()}
                for expression in template.expressions():
                    for _, name, arguments in calls_in(parse(expression)):
                        if name in used:
                            used[name].add(arguments[0][1])
                with self.subTest(path.name):
                    self.assertEqual(used["parameters"], set(template.parameters))
                    self.assertEqual(used["variables"], set(template.variables))

    def test_every_parameter_has_a_description(self):
        types = {"string": str, "securestring": str, "int": int, "bool": bool, "object": dict, "array": list}
        for path in given.LEAST:
            for name, parameter in Template(path).parameters.items():
                with self.subTest(f"{path.name}: {name}"):
                    self.assertGreater(len(parameter["metadata"]["description"]), 20)
                    if "defaultValue" in parameter:
                        self.assertIs(type(parameter["defaultValue"]), types[parameter["type"]])

    def test_dependencies_are_deployed(self):
        for path in given.LEAST:
            template = Template(path, given.EVERYTHING[path])
            there = {resource["id"] for resource in template.resources()}
            for resource in template.resources():
                for dependency in resource.get("dependsOn", []):
                    with self.subTest(resource["id"]):
                        self.assertIn(dependency, there)

    def test_resources_depend_on_those_that_they_refer_to(self):
        for path in given.LEAST:
            resources = {each["id"]: each for each in Template(path, given.EVERYTHING[path]).resources()}
            for identifier, resource in resources.items():
                before = self.all_before(resources, identifier)
                parent = identifier.rsplit("/", 2)[0]
                mentioned = (resource["mentioned"] | {parent}) & set(resources) - {identifier}
                with self.subTest(identifier):
                    self.assertLessEqual(mentioned, before)

    def all_before(self, resources, identifier):
        """The ids of all resources that this one depends on, directly or not."""
        before, left = set(), list(resources[identifier].get("dependsOn", []))
        while left:
            each = left.pop()
            if each not in before:
                before.add(each)
                left += resources[each].get("dependsOn", [])
        return before

    def test_referenced_resources_are_deployed(self):
        # subscription.json refers to resources of mainTemplate.json, so it is not tested here.
        for path in (given.PARTNER, given.MANAGED_APP):
            template = Template(path, given.EVERYTHING[path])
            resources = template.resources()
            there = {resource["id"] for resource in resources}
            template.mentioned = set()
            template.outputs()
            for mentioned in [template.mentioned, *(resource["mentioned"] for resource in resources)]:
                with self.subTest(path.name):
                    self.assertLessEqual(mentioned, there)

    def test_references_use_the_deployed_api_version(self):
        for path in (given.PARTNER, given.MANAGED_APP):
            template = Template(path, given.EVERYTHING[path])
            versions = {resource["id"]: resource["apiVersion"] for resource in template.resources()}
            template.outputs()
            self.assertTrue(template.references)
            for identifier, version in template.references:
                with self.subTest(identifier):
                    self.assertEqual(version, versions[identifier])

    def test_resource_ids_are_unique(self):
        for template in given.templates():
            identifiers = [resource["id"] for resource in template.resources()]
            with self.subTest(template.path.name):
                self.assertEqual(len(identifiers), len(set(identifiers)))

    def test_assigned_roles_are_exactly_those_listed_here(self):
        for path in given.LEAST:
            granted = set()
            for resource in Template(path, given.EVERYTHING[path]).resources():
                if resource["type"] == "Microsoft.Authorization/roleAssignments":
                    properties = resource["properties"]
                    role = ROLES[properties["roleDefinitionId"].rsplit("/", 1)[1]]
                    granted.add((named(PRINCIPALS, properties["principalId"]), named(SCOPES, resource["scope"]), role))
                    self.assertRegex(resource["name"], r"^[0-9a-f-]{36}$")
            with self.subTest(path.name):
                self.assertEqual(granted, GRANTED[path])

    def test_optional_roles_are_not_assigned_without_a_principal(self):
        for path in given.LEAST:
            for resource in Template(path, given.LEAST[path]).resources():
                if resource["type"] == "Microsoft.Authorization/roleAssignments":
                    self.assertTrue(str(resource["properties"]["principalId"]), resource["id"])

    def test_secrets_are_stored_in_the_vault_only(self):
        for template in given.templates():
            secure = {name for name, each in template.parameters.items() if each["type"] == "securestring"}
            marked = {name for name, value in template.values.items() if given.SECRET in str(value)}
            with self.subTest(template.path.name):
                self.assertLessEqual(marked, secure)
                self.assertNotIn(given.SECRET, str(template.outputs()))
                self.assertNotIn("listKeys", str([str(value) for value in template.outputs().values()]))
            for resource in template.resources():
                for path, value in walk(resource):
                    if given.SECRET in str(value):
                        self.assertEqual(resource["type"], "Microsoft.KeyVault/vaults/secrets")
                        self.assertEqual(path, ("properties", "value"))

    def test_storage_vaults_and_apps_have_secure_settings(self):
        for template in given.templates():
            for resource in template.resources():
                properties = resource.get("properties", {})
                with self.subTest(resource["id"]):
                    if resource["type"] == "Microsoft.Storage/storageAccounts":
                        self.assertIs(properties["allowBlobPublicAccess"], False)
                        self.assertIs(properties["supportsHttpsTrafficOnly"], True)
                        self.assertEqual(properties["minimumTlsVersion"], "TLS1_2")
                        may_have_keys = "/storageAccounts/drops" in resource["id"]
                        self.assertIs(properties["allowSharedKeyAccess"], may_have_keys)
                        self.assertRegex(resource["name"], r"^[a-z0-9]{3,24}$")
                    elif resource["type"].endswith("/containers"):
                        self.assertEqual(properties["publicAccess"], "None")
                    elif resource["type"] == "Microsoft.KeyVault/vaults":
                        self.assertIs(properties["enableRbacAuthorization"], True)
                        self.assertIs(properties["enablePurgeProtection"], True)
                        self.assertRegex(resource["name"], r"^[a-z][a-z0-9-]{2,23}$")
                    elif resource["type"] == "Microsoft.Web/sites":
                        self.assertIs(properties["httpsOnly"], True)

    def test_names_in_json_objects_are_unique(self):
        # JSON parsers silently keep only the last of two members with the same name.
        for path in [*given.LEAST, given.USER_INTERFACE]:
            pairs = re.findall(r'^\s*"([^"]+)":', path.read_text(), re.MULTILINE)
            self.assertGreater(len(pairs), 10)

            def once(pairs_of_object):
                names = [name for name, _ in pairs_of_object]
                self.assertEqual(len(names), len(set(names)), names)
                return dict(pairs_of_object)

            json.loads(path.read_text(), object_pairs_hook=once)


if __name__ == "__main__":
    unittest.main()
