"""A bundle on the JVM against the same file in Python's runtime: tokens, speed, first token, garbage.

    python benchmarks/jvm_speed.py BUNDLE [--runtime onnxruntime] [--prompts 50] [--tokens 48] [--json FILE]

Questions of benchmarks/prompts.txt are answered greedily by both, in turn: Python, Java, Java, Python, so
that what else the machine does is spread over both. Ratios are of Python's figure to Java's, more is better
for Java; processor time counts where the machine is busy. With `--drafts` Java judges guesses, which must
change no token. The JVM compiles as it runs, so the first prompts do not count. It exits with 1 when a text
differs; where it differs first stands in the output.

Build the Java modules before: mvn -f android_demo/pom.xml test-compile
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.errors import EdgeError
from edgesdk.model import Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "android_demo"))  # its scripts are no package
from jvm import JvmModel

BACKENDS = {"onnxruntime": "onnxruntime-step", "litert": "litert", "litert-jni": "litert"}
"""What the same runtime is called in Python."""


@dataclass
class Side:
    """Figures of one runtime, a value for each prompt and turn."""

    first_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def add(self, first_ms: float, later_ms: float, cpu_ms: float, tokens: int) -> None:
        self.first_ms.append(first_ms)
        self.token_ms.append(later_ms / max(tokens - 1, 1))
        self.cpu_ms.append(cpu_ms)


def ask_python(model: Model, prompt: list[int], tokens: int) -> tuple[list[int], float, float, float]:
    """Tokens, time to the first, time of the others, processor time of all, in milliseconds."""
    cpu, began = time.process_time(), time.perf_counter()
    completion = model.generate(prompt, max_tokens=tokens, temperature=0.0, repetition_penalty=1.0)
    whole = (time.perf_counter() - began) * 1e3
    first = completion.ttft_ms
    return list(completion.tokens), first, whole - first, (time.process_time() - cpu) * 1e3


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--runtime", type=click.Choice(list(BACKENDS)), default="onnxruntime", show_default=True)
@click.option("--prompts", "count", default=50, show_default=True)
@click.option("--tokens", default=48, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--once", is_flag=True, help="ask each once, for tokens alone")
@click.option("--warm", default=2, show_default=True, help="prompts whose figures do not count")
@click.option("--drafts", is_flag=True, help="Java judges guesses from the text itself")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures to this file")
def main(
    bundle: Path,
    runtime: str,
    count: int,
    tokens: int,
    threads: int,
    once: bool,
    warm: int,
    drafts: bool,
    json_file: Path | None,
) -> None:
    """Prints how Java's answers and figures compare with Python's; exits with 1 when a text differs."""
    questions = (Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8").splitlines()[:count]
    python, java = Side(), Side()
    identical, compared, garbage, steps, made = 0, 0, [], 0, 0
    try:
        with (
            edgesdk.load(bundle, backend=BACKENDS[runtime], strict=True, threads=threads) as model,
            JvmModel(runtime, bundle, threads=threads) as jvm,
        ):
            click.echo(f"{model.receipt}\n{jvm.receipt}")
            for number, question in enumerate(questions):
                if number == warm:  # by now what runs often has been compiled
                    python, java, garbage, steps, made = Side(), Side(), [], 0, 0
                prompt = model.render_prompt(question)
                texts: dict[str, list[int]] = {}
                for who in "pj" if once else "pjjp":
                    if who == "p":
                        texts[who], first, later, cpu = ask_python(model, prompt, tokens)
                        python.add(first, later, cpu, len(texts[who]))
                        continue
                    found = jvm.ask(ids=prompt, max_tokens=tokens, drafts=drafts)
                    texts[who] = found["tokens"]
                    java.add(found["first_ms"], found["later_ms"], found["cpu_ms"], len(texts[who]))
                    if found["garbage_bytes_a_piece"] is not None:
                        garbage.append(found["garbage_bytes_a_piece"])
                    steps, made = steps + found["steps"], made + len(texts[who]) - 1
                compared += 1
                identical += texts["p"] == texts["j"]
                if texts["p"] != texts["j"]:
                    pairs = enumerate(zip(*texts.values(), strict=False))
                    at = next((i for i, (a, b) in pairs if a != b), min(map(len, texts.values())))
                    row = np.sort(model.score(np.array(prompt + texts["p"][:at], np.int32))[-1])
                    click.echo(
                        f"prompt {number} differs at token {at}, lead {row[-1] - row[-2]:.5f}: {question}"
                    )
    except (EdgeError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    figures = {
        "identical": f"{identical} of {compared}",
        "decode_ratio": _ratio(python.token_ms, java.token_ms),
        "first_token_ratio": _ratio(python.first_ms, java.first_ms),
        "processor_time_ratio": _ratio(python.cpu_ms, java.cpu_ms),
        "python_token_ms": round(statistics.median(python.token_ms), 2),
        "java_token_ms": round(statistics.median(java.token_ms), 2),
        "java_garbage_bytes_a_token": round(statistics.median(garbage)) if garbage else None,
        "java_tokens_a_step": round(made / steps, 3) if steps else None,
    }
    for name, value in figures.items():
        click.echo(f"{name}: {value}")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if identical < compared:
        raise SystemExit(1)


def _ratio(python: list[float], java: list[float]) -> float:
    return round(statistics.median(python) / statistics.median(java), 3)


if __name__ == "__main__":
    main()
