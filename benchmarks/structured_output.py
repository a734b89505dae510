"""Structured output on a real bundle: how many documents are valid, and what the grammar costs.

    python benchmarks/structured_output.py BUNDLE [--documents 1000] [--json]

Documents are sampled (temperature 0.8) against the schemas of schemas.json in turn, from a chat prompt
that names the schema. Each is parsed and validated with the jsonschema package, formats included. A
document is `valid`, or `cut` (it reached the limit, and the completion says so), or `invalid`, which must
not happen; the exit status says whether it did.

Speed is decoding alone, tokens per second after the first, free and constrained in turn, medians: with
`string`, a JSON text that needs a mask at every token and has no forced ones, the cost of the masks; with
`document`, an object with forced keys, what a user sees, where forced tokens come in one step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import jsonschema

import edgesdk

SCHEMAS = json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
STRING = {"type": "string", "minLength": 4000}
DOCUMENT = {
    "type": "object",
    "properties": {
        f"{name} of the {thing}": {"type": "string", "minLength": 20, "maxLength": 60}
        for name in ("colour", "history", "purpose")
        for thing in ("house", "garden", "village")
    },
    "additionalProperties": False,
}
DOCUMENT["required"] = list(DOCUMENT["properties"])
QUESTION = "Describe an old house and its garden in a village by the sea."


def check_documents(model: edgesdk.Model, documents: int, max_tokens: int) -> dict[str, Counter[str]]:
    """Counts of `valid`, `cut` and `invalid` for each schema."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in SCHEMAS}
    names = list(SCHEMAS)
    for number in range(documents):
        name = names[number % len(names)]
        schema = SCHEMAS[name]
        prompt = model.render_prompt(
            f"Write an example of a JSON document: {name}. {json.dumps(schema)[:300]}"
        )
        completion = model.generate(
            prompt, json_schema=schema, temperature=0.8, seed=number, max_tokens=max_tokens
        )
        counts[name][judge(completion, schema)] += 1
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {documents}", end="", file=sys.stderr)
    return counts


def judge(completion: edgesdk.Completion, schema: object) -> str:
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        validator(schema, format_checker=validator.FORMAT_CHECKER).validate(json.loads(completion.text))
    except (ValueError, jsonschema.ValidationError):
        return "cut" if completion.finish_reason == "length" else "invalid"
    return "valid"


def measure_speed(model: edgesdk.Model, tokens: int, rounds: int) -> dict[str, float]:
    """Median tokens per second of decoding, and what compiling and the first mask take."""
    prompt = model.render_prompt(QUESTION)
    began = time.perf_counter()
    model.generate(prompt, json_schema=STRING, max_tokens=1)
    first_s = time.perf_counter() - began
    ways: dict[str, dict[str, object]] = {
        "free": {"ignore_eos": True},
        "string": {"json_schema": STRING},
        "document": {"json_schema": DOCUMENT},
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, options in ways.items():
            done = model.generate(prompt, max_tokens=tokens, temperature=0.8, seed=turn, **options)
            if turn and done.decode_tokens_per_s is not None:  # the first round warms up
                speeds[way].append(done.decode_tokens_per_s)
    medians = {f"{way}_tokens_per_s": statistics.median(values) for way, values in speeds.items()}
    # Rounds are paired: what slows the machine slows all ways of a round.
    shares = [string / free for string, free in zip(speeds["string"], speeds["free"], strict=True)]
    return medians | {"string_over_free": statistics.median(shares), "first_grammar_s": first_s}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--variant")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=200, help="of a document")
    parser.add_argument("--rounds", type=int, default=7, help="of the measurement of speed; 0 leaves it out")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer in it")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with edgesdk.load(
        asked.bundle, backend=asked.backend, variant=asked.variant, threads=asked.threads
    ) as model:
        speed = measure_speed(model, asked.tokens, asked.rounds) if asked.rounds else {}
        counts = check_documents(model, asked.documents, asked.max_tokens)
        receipt = str(model.receipt)
    total = sum(counts.values(), Counter())
    if asked.json:
        print(json.dumps({"speed": speed, "total": total, "schemas": counts, "receipt": receipt}, indent=2))
    else:
        print(receipt)
        for figure, value in speed.items():
            print(f"{figure:24} {value:8.2f}")
        for name, each in counts.items():
            print(f"{name:24} valid {each['valid']:4}  cut {each['cut']:4}  invalid {each['invalid']:4}")
        print(f"{'all':24} valid {total['valid']:4}  cut {total['cut']:4}  invalid {total['invalid']:4}")
    return 1 if total["invalid"] else 0


if __name__ == "__main__":
    sys.exit(main())
