"""Evaluates Azure Resource Manager templates: the expression language, and the resources that a template deploys.

It implements only the functions that our templates use. If a template needs another function, add it here. Values that only
Azure knows (`reference`, `listKeys`) are an `Unknown`, which records its origin.
"""

import json
import re
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GROUP = "/subscriptions/00000000-0000-4000-8000-00000000000a/resourceGroups/group"
TENANT = "00000000-0000-4000-8000-00000000000b"


class Mistake(Exception):
    """Azure would reject the template. The message has the reason."""


class Unknown:
    """A value that only Azure knows."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return f"<{self.text}>"


TOKEN = re.compile(r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[().,\[\]]))")


def parse(text):
    """Parses an expression to a tree of ("call", name, arguments), ("property", of, name), ("index", of, at), ("value", it)."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = TOKEN.match(text, at)
        if not match:
            raise Mistake(f"`{text}`: cannot parse `{text[at:]}`")
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    tree, rest = _expression(tokens)
    if rest:
        raise Mistake(f"`{text}`: unexpected `{rest[0][1]}` after the expression")
    return tree


def _take(tokens, sign):
    """The tokens after `sign`, which must come first."""
    if not tokens or tokens[0] != ("sign", sign):
        raise Mistake(f"expected `{sign}`, found {tokens[0][1] if tokens else 'the end'}")
    return tokens[1:]


def _expression(tokens):
    """Parses the first expression; returns its tree and the tokens after it."""
    if not tokens:
        raise Mistake("expected an expression, found the end")
    (kind, text), tokens = tokens[0], tokens[1:]
    if kind == "string":
        tree = ("value", text[1:-1].replace("''", "'"))
    elif kind == "number":
        tree = ("value", int(text))
    elif kind == "name":
        tokens = _take(tokens, "(")
        arguments = []
        while tokens and tokens[0] != ("sign", ")"):
            if arguments:
                tokens = _take(tokens, ",")
            argument, tokens = _expression(tokens)
            arguments.append(argument)
        tokens = _take(tokens, ")")
        tree = ("call", text, arguments)
    else:
        raise Mistake(f"expected an expression, found `{text}`")
    while tokens and tokens[0][1] in (".", "[") and tokens[0][0] == "sign":
        if tokens[0][1] == ".":
            if len(tokens) < 2 or tokens[1][0] != "name":
                raise Mistake("expected a name after `.`")
            tree, tokens = ("property", tree, tokens[1][1]), tokens[2:]
        else:
            index, tokens = _expression(tokens[1:])
            tree, tokens = ("index", tree, index), _take(tokens, "]")
    return tree, tokens


def expression_of(value):
    """The expression in a string of a template, or None if the string is a literal."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]") and not value.startswith("[["):
        return value[1:-1]
    return None


def calls_in(tree):
    """Yields every ("call", name, arguments) in a tree."""
    if tree[0] == "call":
        yield tree
        for argument in tree[2]:
            yield from calls_in(argument)
    elif tree[0] in ("property", "index"):
        for part in tree[1:]:
            if isinstance(part, tuple):
                yield from calls_in(part)


def walk(value, path=()):
    """Yields the path and the value of every scalar below `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, (*path, index))
    else:
        yield path, value


DEPLOYMENT = "Microsoft.Resources/deployments"


class Template:
    """A template and the values of its parameters. `content` is that of a template in another one."""

    def __init__(self, path, values=None, content=None):
        self.path = Path(path)
        self.json = content or json.loads(self.path.read_text())
        self.parameters = self.json["parameters"]
        self.variables = self.json["variables"]
        self.values = dict(values or {})
        self.mentioned = set()
        # Ids and API versions of all `reference` calls.
        self.references = set()
        # Variables of loops and lambdas during their evaluation.
        self.locals = {}
        unknown = set(self.values) - set(self.parameters)
        if unknown:
            raise Mistake(f"{self.path.name} has no parameters {sorted(unknown)}")

    def resources(self):
        """The resources that are deployed with these values, evaluated, each with its `id`."""
        found, loops = [], {}
        for resource in self.json["resources"]:
            # A `copy` of a resource is an object, a `copy` of a property is a list.
            loop = resource.get("copy", {"count": 1})
            resource, nested = without_nested(resource)
            self.mentioned = set()
            for index in range(self.evaluate(loop["count"])):
                if "name" in loop:
                    self.locals[loop["name"]] = index
                self.mentioned = set()
                evaluated = self.evaluate({key: value for key, value in resource.items() if key != "copy"})
                if evaluated.get("condition", True):
                    evaluated["id"] = resource_id(
                        evaluated["type"], evaluated["name"].split("/"), evaluated.get("scope", GROUP)
                    )
                    evaluated["mentioned"] = self.mentioned
                    found.append(evaluated)
                    loops.setdefault(loop.get("name"), []).append(evaluated["id"])
                    if nested:
                        values = {name: each["value"] for name, each in evaluated["properties"]["parameters"].items()}
                        found += Template(self.path, values, nested).resources()
        # The name of a loop in `dependsOn` stands for all resources of the loop.
        names = {resource["copy"]["name"] for resource in self.json["resources"] if "copy" in resource}
        for resource in found:
            if "dependsOn" in resource:
                each = [loops.get(name, []) if name in names else [name] for name in resource["dependsOn"]]
                resource["dependsOn"] = [identifier for identifiers in each for identifier in identifiers]
        return found

    def nested(self):
        """The templates in this one. They have parameters and variables of their own."""
        nested = (without_nested(resource)[1] for resource in self.json["resources"])
        return [Template(self.path, content=content) for content in nested if content]

    def expressions(self):
        """Yields the text of every expression, except for those in nested templates."""
        resources = [without_nested(resource)[0] for resource in self.json["resources"]]
        for _, value in walk({**self.json, "resources": resources}):
            if expression_of(value) is not None:
                yield expression_of(value)

    def outputs(self):
        """The outputs, evaluated."""
        return {name: self.evaluate(output["value"]) for name, output in self.json["outputs"].items()}

    def evaluate(self, value):
        """Replaces the expressions in `value` by their results."""
        if isinstance(value, dict):
            evaluated = {key: self.evaluate(inner) for key, inner in value.items() if key != "copy"}
            for loop in value.get("copy", []):
                evaluated[loop["name"]] = [self._copied(loop, index) for index in range(self.evaluate(loop["count"]))]
            return evaluated
        if isinstance(value, list):
            return [self.evaluate(inner) for inner in value]
        text = expression_of(value)
        if text is not None:
            return self._value(parse(text))
        return value[1:] if isinstance(value, str) and value.startswith("[[") else value

    def _copied(self, loop, index):
        self.locals[loop["name"]] = index
        return self.evaluate(loop["input"])

    def _value(self, tree):
        kind = tree[0]
        if kind == "value":
            return tree[1]
        if kind == "call":
            return self._call(tree[1], tree[2])
        of = self._value(tree[1])
        name = tree[2] if kind == "property" else self._value(tree[2])
        if isinstance(of, Unknown):
            return Unknown(f"{of.text}.{name}")
        try:
            return of[name]
        except (KeyError, IndexError, TypeError) as error:
            raise Mistake(f"no `{name}` in {of!r}") from error

    def _call(self, name, trees):
        # Azure evaluates only the branch that is chosen.
        if name == "if":
            return self._value(trees[1] if self._value(trees[0]) else trees[2])
        if name == "lambda":
            return lambda item: self._with(self._value(trees[0]), item, trees[1])
        function = getattr(self, f"_{name.lower()}", None) or FUNCTIONS.get(name)
        if function is None:
            raise Mistake(f"unknown function `{name}`")
        return function(*[self._value(tree) for tree in trees])

    def _with(self, name, item, body):
        self.locals[name] = item
        return self._value(body)

    def _lambdavariables(self, name):
        if name not in self.locals:
            raise Mistake(f"unknown lambda variable `{name}`")
        return self.locals[name]

    _copyindex = _lambdavariables

    def _parameters(self, name):
        if name not in self.parameters:
            raise Mistake(f"unknown parameter `{name}`")
        if name in self.values:
            return self.values[name]
        if "defaultValue" not in self.parameters[name]:
            raise Mistake(f"parameter `{name}` has no value")
        return self.evaluate(self.parameters[name]["defaultValue"])

    def _variables(self, name):
        if name not in self.variables:
            raise Mistake(f"unknown variable `{name}`")
        return self.evaluate(self.variables[name])

    def _resourceid(self, kind, *names):
        identifier = resource_id(kind, names, GROUP)
        self.mentioned.add(identifier)
        return identifier

    def _reference(self, identifier, version, full=""):
        if full not in ("", "full"):
            raise Mistake(f"reference(): expected `full` or nothing, found `{full}`")
        self.references.add((identifier, version))
        return Unknown(f"reference({identifier})")

    def _extensionresourceid(self, scope, kind, *names):
        identifier = resource_id(kind, names, scope)
        self.mentioned.add(identifier)
        return identifier


def without_nested(resource):
    """A resource without the template in it, and that template. Its expressions are evaluated on their own."""
    if resource["type"] != DEPLOYMENT:
        return resource, None
    properties = dict(resource["properties"])
    if properties["expressionEvaluationOptions"] != {"scope": "inner"}:
        raise Mistake("a nested template must evaluate its own expressions")
    return {**resource, "properties": properties}, properties.pop("template")


def resource_id(kind, names, scope):
    """The id of a resource. The type must have as many parts as there are names."""
    if not all(isinstance(name, str) and name for name in names):
        raise Mistake(f"`{kind}` has an empty name in {names}")
    provider, *types = kind.split("/")
    if len(types) != len(names):
        raise Mistake(f"`{kind}` needs {len(types)} names, found {len(names)}: {names}")
    return f"{scope}/providers/{provider}/" + "/".join(f"{type_}/{name}" for type_, name in zip(types, names))


def _format(pattern, *arguments):
    numbers = {int(number) for number in re.findall(r"\{(\d+)\}", pattern)}
    if numbers != set(range(len(arguments))):
        raise Mistake(f"format('{pattern}') has the placeholders {sorted(numbers)}, but {len(arguments)} values")
    return re.sub(r"\{(\d+)\}", lambda match: str(arguments[int(match[1])]), pattern)


def _union(*objects):
    if isinstance(objects[0], list):
        return list(dict.fromkeys(item for each in objects for item in each))
    merged = {}
    for each in objects:
        merged.update(each)
    return merged


def _concat(*parts):
    if all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    return "".join(map(str, parts))


def _fail(message):
    raise Mistake(message)


FUNCTIONS = {
    "add": lambda a, b: a + b,
    "and": lambda *values: all(values),
    "concat": _concat,
    "contains": lambda whole, part: part in whole,
    "createArray": lambda *items: list(items),
    "createObject": lambda *pairs: dict(zip(pairs[::2], pairs[1::2])),
    "div": lambda a, b: a // b,
    "empty": lambda value: not value,
    "environment": lambda: {"suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"}},
    "equals": lambda a, b: a == b,
    "fail": _fail,
    "filter": lambda items, keep: [item for item in items if keep(item)],
    "format": _format,
    "greater": lambda a, b: a > b,
    "guid": lambda *parts: str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts)))),
    "last": lambda value: value[-1] if value else "",
    "length": len,
    "listKeys": lambda identifier, version: Unknown(f"listKeys({identifier})"),
    "map": lambda items, change: [change(item) for item in items],
    "max": max,
    "mul": lambda a, b: a * b,
    "not": lambda value: not value,
    "null": lambda: None,
    "or": lambda *values: any(values),
    "replace": str.replace,
    "resourceGroup": lambda: {"id": GROUP, "location": "westeurope", "name": "group"},
    "skip": lambda items, count: items[count:],
    "split": lambda text, separator: text.split(separator),
    "startsWith": lambda text, start: text.lower().startswith(start.lower()),
    "sub": lambda a, b: a - b,
    "subscription": lambda: {"tenantId": TENANT, "subscriptionId": GROUP.split("/")[2]},
    "subscriptionResourceId": lambda kind, *names: resource_id(kind, names, "/".join(GROUP.split("/")[:3])),
    "substring": lambda text, start, *length: text[start:][: length[0] if length else None],
    "take": lambda items, count: items[:count],
    "toLower": str.lower,
    "trim": str.strip,
    "union": _union,
    "uniqueString": lambda *parts: uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))).hex[:13],
}
