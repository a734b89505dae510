"""lm-evaluation-harness by a float32 bundle and by transformers on the same weights: the same numbers?

    python benchmarks/harness_agreement.py BUNDLE MODEL.gguf --limit 60

In an environment of its own with the extra `lm-eval`, torch, transformers and countryinfo (1.x). The tasks
are local, for a machine without a hub: capitals of countries as multiple choice (`countryinfo`, log-
likelihood), prose of Python's own documentation (`pydoc_data.topics`, rolling log-likelihood) and short
answers (greedy texts). Both sides get them through the harness; transformers dequantises the file by
itself. Reported, as JSON: metrics of both with the harness's standard errors, the largest difference of a
log-likelihood, and unequal texts.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

import edgesdk
from edgesdk.evaluation.lm_eval_model import HarnessModel

CHOICES = """task: local_capitals
dataset_path: json
dataset_kwargs: {data_files: {test: "%(data)s"}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: choices
doc_to_target: label
target_delimiter: " "
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING = """task: local_prose
dataset_path: json
dataset_kwargs: {data_files: {test: "%(data)s"}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
ANSWERS = """task: local_answers
dataset_path: json
dataset_kwargs: {data_files: {test: "%(data)s"}}
test_split: test
output_type: generate_until
doc_to_text: "Q: What is the capital of {{country}}?\\nA:"
doc_to_target: "{{capital}}"
generation_kwargs: {until: ["\\n", "Q:"], max_gen_toks: 16, do_sample: false}
metric_list: [{metric: exact_match, ignore_case: true, ignore_punctuation: true}]
"""
TASKS = ("local_capitals", "local_prose", "local_answers")


def write_tasks(folder: Path, limit: int) -> None:
    """Data and task files."""
    from pydoc_data.topics import topics

    from countryinfo import all_countries  # type: ignore[import-not-found]

    known = []
    for entry in all_countries():
        name, capital = entry.name(), entry.capital()
        if name and capital:
            known.append((str(name).capitalize(), str(capital)))
    known.sort()
    rows = []
    for i, (country, capital) in enumerate(known[:limit]):
        wrong = [known[(i * 7 + step) % len(known)][1] for step in (11, 29, 53)]
        choices = [*wrong[: i % 4], capital, *wrong[i % 4 :]]
        rows.append({"country": country, "capital": capital, "choices": choices, "label": i % 4})
    prose = [{"text": text[:1500]} for _, text in sorted(topics.items()) if len(text) > 1500]
    data = {"local_capitals": rows, "local_prose": prose[: max(4, limit // 6)], "local_answers": rows}
    for name, template in zip(TASKS, (CHOICES, ROLLING, ANSWERS), strict=True):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in data[name]), encoding="utf-8")
        (folder / f"{name}.yaml").write_text(template % {"data": file}, encoding="utf-8")


def open_hf(gguf: Path, bundle: Path) -> Any:
    """The harness's own model for transformers, on the same file and the same tokenizer."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)  # two that wait for each other take minutes on a busy machine
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["tokenizer"]
    engine = {"tokenizer_file": str(bundle / "tokenizer.json")}
    tokenizer = PreTrainedTokenizerFast(
        **engine,
        bos_token=manifest["bos_token"],
        eos_token=manifest["eos_token"],
        pad_token=manifest["eos_token"],
    )
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu", max_length=2048)


def evaluate(model: Any, folder: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found = simple_evaluate(
        model, tasks=list(TASKS), task_manager=TaskManager(include_path=str(folder)), bootstrap_iters=1000
    )
    assert found is not None
    return {"results": found["results"], "samples": found["samples"]}


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Metrics side by side, and the largest difference of single answers."""
    report: dict[str, Any] = {
        "metrics": {},
        "largest_difference": {},
        "unequal_texts": 0,
        "same_greedy": True,
    }
    for task in TASKS:
        for name, value in ours["results"][task].items():
            if "," in name and isinstance(value, float) and "_stderr" not in name:
                error = theirs["results"][task].get(name.replace(",", "_stderr,"))
                report["metrics"][f"{task}/{name}"] = [value, theirs["results"][task][name], error]
        largest = 0.0
        pairs = zip(ours["samples"][task], theirs["samples"][task], strict=True)
        for mine, other in pairs:
            for a, b in zip(mine["resps"], other["resps"], strict=True):
                a, b = a[0], b[0]
                if isinstance(a, str):
                    report["unequal_texts"] += a != b
                    continue
                if isinstance(a, list | tuple):
                    report["same_greedy"] &= bool(a[1]) == bool(b[1])
                    a, b = a[0], b[0]
                largest = max(largest, abs(float(a) - float(b)))
        report["largest_difference"][task] = largest
    return report


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("gguf", type=click.Path(path_type=Path))
@click.option("--limit", default=60, show_default=True, help="documents of the tasks about countries")
def main(bundle: Path, gguf: Path, limit: int) -> None:
    """Compares BUNDLE with transformers on GGUF."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tasks(folder, limit)
        theirs = evaluate(open_hf(gguf, bundle), folder)
        with edgesdk.load(bundle) as model:
            ours = evaluate(HarnessModel(model), folder)
    click.echo(json.dumps(compare(ours, theirs), indent=1))


if __name__ == "__main__":
    main()
