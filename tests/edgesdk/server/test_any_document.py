"""Documents of every kind, sound and damaged: whatever comes, no answer is an error of the server.

The long form is `benchmarks/serve_fuzz.py`.
"""

import json
import random

from edgesdk.server.open_api import describe

NOTHING = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "日本\n\x00",
    [],
    [[]],
    {},
    {"": None},
    [{}],
    "tiny",
    ["x"] * 40,
)


def made(schema, definitions, rng, depth=0):
    """A value of a JSON schema, or now and then of another."""
    if rng.random() < 0.04 or depth > 8:
        return rng.choice(NOTHING)
    if "$ref" in schema:
        return made(definitions[schema["$ref"].rpartition("/")[2]], definitions, rng, depth + 1)
    if "anyOf" in schema:
        return made(rng.choice(schema["anyOf"]), definitions, rng, depth + 1)
    if "const" in schema or "enum" in schema:
        return rng.choice(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "object":
        needed = schema.get("required", ())
        return {
            key: made(part, definitions, rng, depth + 1)
            for key, part in schema.get("properties", {}).items()
            if key in needed or rng.random() < 0.2
        }
    if kind == "array":
        count = max(schema.get("minItems", 0), rng.randint(0, 2))
        return [made(schema.get("items", {}), definitions, rng, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        return rng.choice([schema.get("minimum", 0), 1, 2, 7])
    simple = {"string": ["", "fox", "The fox?"], "boolean": [True, False], "null": [None]}
    return rng.choice(simple.get(kind, NOTHING))


def test_no_document_is_an_error_of_the_server(make_server):
    server = make_server("The fox.")
    rng = random.Random(7)
    described = describe(["tiny"])
    definitions = described["components"]["schemas"]
    statuses = set()
    for path, methods in described["paths"].items():
        if "post" not in methods:
            continue
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        for _ in range(40):
            document = made(schema, definitions, rng)
            for limit in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
                if isinstance(document, dict) and limit in str(schema) + str(definitions):
                    document.pop(limit, None)
            body = json.dumps(document).encode()
            if rng.random() < 0.1:
                body = body[: rng.randint(0, len(body))]
            status = server.client.ask("POST", path, body=body)[0]
            statuses.add(status)
            assert status < 500, (path, document)
    assert {200, 400} <= statuses
    server.wait_idle()
