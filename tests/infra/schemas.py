"""Validates resources against Azure's published JSON schemas.

The folder `VIVADROP_ARM_SCHEMAS` has the schema `https://schema.management.azure.com/schemas/X` in the file `X`.
"""

import json
import os
from functools import cache
from pathlib import Path

BASE = "https://schema.management.azure.com/schemas/"
FOLDER = os.environ.get("VIVADROP_ARM_SCHEMAS")

# Resource types without a published schema for this version, or whose schema the folder does not have (Microsoft.Network,
# Microsoft.Resources).
# Their properties are not validated.
UNPUBLISHED = {
    ("Microsoft.Insights/components", "2020-02-02"),
    ("Microsoft.Insights/diagnosticSettings", "2021-05-01-preview"),
    ("Microsoft.Insights/scheduledQueryRules", "2022-06-15"),
    ("Microsoft.Logic/workflows", "2019-05-01"),
    ("Microsoft.Network/networkSecurityGroups", "2024-05-01"),
    ("Microsoft.Network/privateDnsZones", "2020-06-01"),
    ("Microsoft.Network/privateDnsZones/virtualNetworkLinks", "2020-06-01"),
    ("Microsoft.Network/privateEndpoints", "2024-05-01"),
    ("Microsoft.Network/privateEndpoints/privateDnsZoneGroups", "2024-05-01"),
    ("Microsoft.Network/virtualNetworks", "2024-05-01"),
    ("Microsoft.Resources/deployments", "2022-09-01"),
}


@cache
def document(address):
    """The schema document at `address`."""
    name = address.removeprefix(BASE).rstrip("#")
    return _corrected(json.loads((Path(FOLDER) / name).read_text()))


def _corrected(schema):
    """Corrects an error in Azure's schema of metric alerts, which forbids every property that its alternatives require."""
    if isinstance(schema, dict):
        if "oneOf" in schema and not schema.get("properties"):
            schema.pop("additionalProperties", None)
        for inner in schema.values():
            _corrected(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _corrected(inner)
    return schema


@cache
def validator(address):
    """A validator for the schema at `address`. It reads other schemas from the folder, and does not use the network."""
    from jsonschema_rs import Draft4Validator

    return Draft4Validator({"$ref": address}, retriever=document)


def address_of(resource):
    """The address of the schema of a resource, or None if it is not published."""
    kind, version = resource["type"], resource["apiVersion"]
    if (kind, version) in UNPUBLISHED:
        return None
    provider, types = kind.split("/", 1)
    schema = document(f"{BASE}{version}/{provider}.json")
    definitions = {name.lower(): name for name in schema["resourceDefinitions"]}
    name = definitions[types.replace("/", "_").lower()]
    return f"{BASE}{version}/{provider}.json#/resourceDefinitions/{name}"


def as_published(resource, address):
    """The resource with its type in the spelling of the schema. Azure ignores the case of types."""
    schema, _ = resolve({"$ref": address}, BASE)
    spelt = schema.get("properties", {}).get("type", {}).get("enum", [resource["type"]])
    kind = next((each for each in spelt if each.lower() == resource["type"].lower()), resource["type"])
    return {**resource, "type": kind}


def mistakes(resource, address):
    """The validation errors of a resource. Some schemas expect the full name of a child, others only its last part."""
    names = [resource["name"], resource["name"].rsplit("/", 1)[-1]]
    return min((list(validator(address).iter_errors({**resource, "name": name})) for name in names), key=len)


def frame_validator(address):
    """A validator for a template without its resources: the schema refers to all resource types of Azure."""
    from jsonschema_rs import Draft4Validator

    schema = dict(document(address))
    schema["required"] = [name for name in schema["required"] if name != "resources"]
    schema["properties"] = {name: each for name, each in schema["properties"].items() if name != "resources"}
    about_resources = {name for name in schema["definitions"] if name.lower().startswith("resource")}
    schema["definitions"] = {name: each for name, each in schema["definitions"].items() if name not in about_resources}
    return Draft4Validator(schema, retriever=document)


def resolve(schema, base):
    """The schema that a `$ref` refers to, and the document to which its own references are relative."""
    while "$ref" in schema:
        target = schema["$ref"]
        base, fragment = (target.split("#") if not target.startswith("#") else (base, target[1:]))
        base = base if base.startswith("http") else BASE + base
        schema = document(base)
        for part in [part for part in fragment.split("/") if part]:
            schema = schema[part]
    return schema, base


def unknown_properties(value, schema, base, path=""):
    """Yields names in `value` that are not in the schema. Azure ignores them silently, and most schemas allow them."""
    schema, base = resolve(schema, base)
    branches = list(_branches(value, schema, base))
    if isinstance(value, list):
        items = [(branch["items"], where) for branch, where in branches if isinstance(branch.get("items"), dict)]
        for index, inner in enumerate(value):
            if items:
                yield from unknown_properties(inner, *items[0], f"{path}/{index}")
    if not isinstance(value, dict):
        return
    properties, is_open = {}, False
    for branch, where in branches:
        for name, inner in branch.get("properties", {}).items():
            properties.setdefault(name, (inner, where))
        # A schema with `additionalProperties` and no named properties allows any name. With named properties, only these.
        is_open = is_open or ("additionalProperties" in branch and not branch.get("properties"))
    is_open = is_open or not properties
    for name, inner in value.items():
        if name in properties:
            yield from unknown_properties(inner, *properties[name], f"{path}/{name}")
        elif not is_open:
            yield f"{path}/{name}"


def _branches(value, schema, base):
    """Yields the schema and the alternatives that match `value`."""
    yield schema, base
    for inner in schema.get("allOf", []):
        yield from _branches(value, *resolve(inner, base))
    for inner in [*schema.get("oneOf", []), *schema.get("anyOf", [])]:
        inner, where = resolve(inner, base)
        if _fits(value, inner):
            yield from _branches(value, inner, where)


def _fits(value, schema):
    """Whether `value` has the type, the fixed values and the required names of an alternative."""
    kind = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}.get(type(value))
    if "type" in schema and schema["type"] not in (kind, "number" if kind == "integer" else kind):
        return False
    if not isinstance(value, dict):
        return True
    # Alternatives differ in a property with one allowed value: `type`, `endpointType`, `odata.type`.
    for name, inner in schema.get("properties", {}).items():
        if len(inner.get("enum", [])) == 1 and value.get(name) != inner["enum"][0]:
            return False
    return set(schema.get("required", [])) <= set(value)
