"""Validates the templates against Azure's published schemas, if `VIVADROP_ARM_SCHEMAS` is set."""

import json
import unittest

from . import given, schemas
from .arm import Unknown

TEMPLATE = {"id", "mentioned", "condition", "scope", "comments", "metadata", "dependsOn", "tags"}


def plain(value):
    """`value` with strings in place of values that only Azure knows, and without properties that are null.

    Azure treats a property that is null as absent.
    """
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Unknown) else value


def messages(errors):
    """The errors as text, each with its place."""
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message[:300]}" for error in errors]


@unittest.skipUnless(schemas.FOLDER, "VIVADROP_ARM_SCHEMAS is not set to a folder with Azure's schemas")
class PublishedSchemas(unittest.TestCase):
    def published(self):
        """Yields every resource whose schema is published: its id, its body, and the address of the schema."""
        for template in given.templates():
            for resource in template.resources():
                address = schemas.address_of(resource)
                if address is not None:
                    body = {key: plain(value) for key, value in resource.items() if key not in TEMPLATE}
                    yield resource["id"], schemas.as_published(body, address), address

    def test_every_resource_is_valid(self):
        for identifier, body, address in self.published():
            with self.subTest(identifier):
                self.assertEqual(messages(schemas.mistakes(body, address)), [])

    def test_every_property_is_known(self):
        for identifier, body, address in self.published():
            with self.subTest(identifier):
                self.assertEqual(list(schemas.unknown_properties(body, {"$ref": address}, address.split("#")[0])), [])

    def test_the_list_of_unpublished_types_is_current(self):
        found = {(each["type"], each["apiVersion"]) for template in given.templates() for each in template.resources()}
        self.assertLessEqual(schemas.UNPUBLISHED, found)

    def test_the_frame_of_every_template_is_valid(self):
        for path in given.LEAST:
            template = {name: each for name, each in json.loads(path.read_text()).items() if name != "resources"}
            self.assertEqual(messages(schemas.frame_validator(template["$schema"]).iter_errors(template)), [], path.name)

    def test_the_user_interface_is_valid(self):
        definition = json.loads(given.USER_INTERFACE.read_text())
        self.assertEqual(self.mistakes_of(definition), [])

    def mistakes_of(self, definition):
        """The validation errors of `createUiDefinition.json`."""
        # The schema has references without a folder, and its list of controls matches some controls twice. So each control
        # is validated against the schema of its type.
        frame = {**definition, "parameters": {**definition["parameters"], "basics": [], "steps": []}}
        errors = list(schemas.validator(definition["$schema"]).iter_errors(frame))
        steps = definition["parameters"]["steps"]
        controls = definition["parameters"]["basics"] + [each for step in steps for each in step["elements"]]
        common = f"{schemas.BASE}0.1.2-preview/CreateUIDefinition.CommonControl.json#/definitions/"
        for control in controls:
            errors += schemas.validator(common + control["type"]).iter_errors(control)
        for step in steps:
            self.assertEqual(set(step), {"name", "label", "elements"})
        return messages(errors)
