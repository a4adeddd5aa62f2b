"""Azure's published JSON schemas, in a folder: `https://schema.management.azure.com/schemas/X` is the file `X` there."""

import json
import os
from functools import cache
from pathlib import Path

BASE = "https://schema.management.azure.com/schemas/"
FOLDER = os.environ.get("VIVADROP_ARM_SCHEMAS")

# Types whose schema Azure has not published in this version: nothing is known of their properties here.
UNPUBLISHED = {
    ("Microsoft.Insights/components", "2020-02-02"),
    ("Microsoft.Insights/diagnosticSettings", "2021-05-01-preview"),
    ("Microsoft.Insights/scheduledQueryRules", "2022-06-15"),
    ("Microsoft.Logic/workflows", "2019-05-01"),
}


@cache
def document(address):
    """The schema at `address`, without its fragment."""
    name = address.removeprefix(BASE).rstrip("#")
    return _mended(json.loads((Path(FOLDER) / name).read_text()))


def _mended(schema):
    """Azure's schema of metric alerts forbids, beside its alternatives, every property that these ask for."""
    if isinstance(schema, dict):
        if "oneOf" in schema and not schema.get("properties"):
            schema.pop("additionalProperties", None)
        for inner in schema.values():
            _mended(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _mended(inner)
    return schema


@cache
def validator(address):
    """What checks a value against the schema at `address`; it finds other schemas in the folder, and asks no network."""
    from jsonschema_rs import Draft4Validator

    return Draft4Validator({"$ref": address}, retriever=document)


def address_of(resource):
    """Where the schema of a resource is, if it is published."""
    kind, version = resource["type"], resource["apiVersion"]
    if (kind, version) in UNPUBLISHED:
        return None
    provider, types = kind.split("/", 1)
    schema = document(f"{BASE}{version}/{provider}.json")
    definitions = {name.lower(): name for name in schema["resourceDefinitions"]}
    name = definitions[types.replace("/", "_").lower()]
    return f"{BASE}{version}/{provider}.json#/resourceDefinitions/{name}"


def as_published(resource, address):
    """A resource with its type as its schema spells it: Azure takes it in any case."""
    schema, _ = resolve({"$ref": address}, BASE)
    spelt = schema.get("properties", {}).get("type", {}).get("enum", [resource["type"]])
    kind = next((each for each in spelt if each.lower() == resource["type"].lower()), resource["type"])
    return {**resource, "type": kind}


def mistakes(resource, address):
    """What the schema at `address` says of a resource. Some schemas want the whole name of a child, some its last part."""
    names = [resource["name"], resource["name"].rsplit("/", 1)[-1]]
    return min((list(validator(address).iter_errors({**resource, "name": name})) for name in names), key=len)


def frame_validator(address):
    """What checks all of a template but its resources: the schema lists those of all of Azure, which are not at hand."""
    from jsonschema_rs import Draft4Validator

    schema = dict(document(address))
    schema["required"] = [name for name in schema["required"] if name != "resources"]
    schema["properties"] = {name: each for name, each in schema["properties"].items() if name != "resources"}
    about_resources = {name for name in schema["definitions"] if name.lower().startswith("resource")}
    schema["definitions"] = {name: each for name, each in schema["definitions"].items() if name not in about_resources}
    return Draft4Validator(schema, retriever=document)


def resolve(schema, base):
    """The schema behind a `$ref`, and the document that its own references are relative to."""
    while "$ref" in schema:
        target = schema["$ref"]
        base, fragment = (target.split("#") if not target.startswith("#") else (base, target[1:]))
        base = base if base.startswith("http") else BASE + base
        schema = document(base)
        for part in [part for part in fragment.split("/") if part]:
            schema = schema[part]
    return schema, base


def unknown_properties(value, schema, base, path=""):
    """Names in `value` that the schema does not have. Azure drops them without a word, and its schemas mostly allow them."""
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
        # `{}` stands for a bag of anything in many places, and beside named properties in some: there, names are known.
        is_open = is_open or ("additionalProperties" in branch and not branch.get("properties"))
    is_open = is_open or not properties
    for name, inner in value.items():
        if name in properties:
            yield from unknown_properties(inner, *properties[name], f"{path}/{name}")
        elif not is_open:
            yield f"{path}/{name}"


def _branches(value, schema, base):
    """The schema, and of its alternatives the ones that fit."""
    yield schema, base
    for inner in schema.get("allOf", []):
        yield from _branches(value, *resolve(inner, base))
    for inner in [*schema.get("oneOf", []), *schema.get("anyOf", [])]:
        inner, where = resolve(inner, base)
        if _fits(value, inner):
            yield from _branches(value, inner, where)


def _fits(value, schema):
    kind = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}.get(type(value))
    if "type" in schema and schema["type"] not in (kind, "number" if kind == "integer" else kind):
        return False
    if not isinstance(value, dict):
        return True
    # What tells alternatives apart is a name with one value: `type`, `endpointType`, `odata.type`.
    for name, inner in schema.get("properties", {}).items():
        if len(inner.get("enum", [])) == 1 and value.get(name) != inner["enum"][0]:
            return False
    return set(schema.get("required", [])) <= set(value)
