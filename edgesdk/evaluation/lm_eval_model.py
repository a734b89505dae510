"""A loaded model as a model of lm-evaluation-harness (Gao et al.; `lm_eval.api.model.TemplateLM`).

    from edgesdk.evaluation.lm_eval_model import HarnessModel, run_harness

    with edgesdk.load("bundle") as model:
        print(run_harness(model, ["my_task"], include_path=Path("tasks")))

Requests are answered one by one: log-likelihoods by `Model.score`, texts by `Model.generate`, so every
figure is of what an app gets. Prompts are cut from the left and windows roll as the harness's own `hf` model
does it.
It knows no tasks. Needs the extra `lm-eval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesdk.bundle.manifest import TOKENIZER_NAME
from edgesdk.errors import EdgeError, MissingExtra, UnsupportedOption, first_line
from edgesdk.evaluation.agreement import log_softmax
from edgesdk.model import Model

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "lm_eval", "lm-eval") from error

_PASSED_ON = ("do_sample", "until", "max_gen_toks", "temperature", "top_k", "top_p", "min_p", "seed")
_MOST_NEW_TOKENS = 256
"""Of an answer whose task sets no limit; the harness's own number."""

Pair = tuple[tuple[str, str] | None, list[int], list[int]]


class HarnessModel(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """Answers the requests of a harness's tasks."""

    def __init__(self, model: Model) -> None:
        """Takes a loaded model, which stays its caller's to close."""
        super().__init__()
        self._model = model

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._model.tokenizer.record.eos_ids[0]

    @property
    def prefix_token_id(self) -> int:
        """What a text without context follows: the start token, or the end token where there is none."""
        bos = self._model.tokenizer.record.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """Most tokens of context and continuation."""
        return self._model.context

    @property
    def tokenizer_name(self) -> str:
        """Tells the harness's caches of requests which tokens these are."""
        return str(self._model.bundle.manifest.files[TOKENIZER_NAME].sha256)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Token ids; with the start token where the model wants one, unless told otherwise."""
        tokenizer = self._model.tokenizer
        bos, start = tokenizer.record.bos_id, ""
        if bos is not None:
            start = tokenizer.engine.id_to_token(bos) or ""
        if add_special_tokens is None and start and string.startswith(start):
            add_special_tokens = False  # it is there already
        return tokenizer.encode(string, add_bos=add_special_tokens is not False and tokenizer.record.add_bos)

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the form that the model was trained for.

        Raises:
            UnsupportedOption: the model has no template, or an answer is to be continued.
        """
        template = self._model.chat_template
        if template is None or not add_generation_prompt:
            raise UnsupportedOption(
                "this model cannot continue a conversation; run the tasks without a template"
            )
        return template.render([dict(message) for message in chat_history])

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is the greedy one."""
        found = []
        for texts, context, continuation in requests:
            answer = self._score(context, continuation)
            found.append(answer)
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each whole text, in windows of the context's length."""
        found = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            total = sum(self._score(*make_disjoint_window(window))[0] for window in windows)
            found.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts up to one that stops them.

        Raises:
            UnsupportedOption: a task asks for something that has no meaning here.
        """
        found = []
        for context, asked in (request.args for request in requests):
            answer = self._generate(context, asked)
            found.append(answer)
            self.cache_hook.add_partial("generate_until", (context, asked), answer)
        return found

    def _score(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, bool]:
        if not continuation:
            return 0.0, True
        # The last token is scored and not run; of a context that is too long the end stays.
        tokens = np.asarray([*context, *continuation][-(self.max_length + 1) :], np.int32)
        count = min(len(continuation), len(tokens) - 1)
        rows = log_softmax(self._model.score(tokens[:-1])[-count:])
        wanted = tokens[-count:]
        greedy = bool((rows.argmax(-1) == wanted).all())
        return float(rows[np.arange(count), wanted].sum()), greedy

    def _generate(self, context: str, asked: Mapping[str, object]) -> str:
        wishes = normalize_gen_kwargs(dict(asked), _MOST_NEW_TOKENS)
        unknown = sorted(set(wishes) - set(_PASSED_ON))
        if unknown:
            raise UnsupportedOption(f"a task generates with {unknown[0]}, expected {', '.join(_PASSED_ON)}")
        most = min(int(wishes["max_gen_toks"]), self.max_length - 1)
        prompt = self.tok_encode(context)[-(self.max_length - most) :]
        until = [text for text in wishes["until"] if text]
        sampling = {name: wishes[name] for name in ("top_k", "top_p", "min_p", "seed") if name in wishes}
        answer = self._model.generate(
            prompt,
            max_tokens=most,
            temperature=float(wishes["temperature"]) if wishes["do_sample"] else 0.0,
            stop=until,
            **(sampling if wishes["do_sample"] else {}),
        )
        return str(postprocess_generated_text(generation=answer.text, stop=until, think_end_token=None))


def run_harness(
    model: Model,
    tasks: Sequence[str],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
) -> dict[str, float]:
    """Runs tasks of the harness.

    Args:
        model: loaded.
        tasks: names.
        include_path: folder with tasks of one's own. Their files may hold Python that is run.
        limit: most documents of each task; None for all.
        num_fewshot: examples before each question; None for what the task says.

    Returns:
        Figures by `TASK/METRIC`, each with its standard error as `TASK/METRIC_stderr` where it has one.

    Raises:
        UnsupportedOption: there is no such task, or its data cannot be read.
        DeviceError: the backend fails.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        raise UnsupportedOption(
            f"lm-evaluation-harness has no task {unknown[0]!r}; list them with: lm_eval ls tasks"
        )
    try:
        found = simple_evaluate(
            HarnessModel(model),
            tasks=list(tasks),
            num_fewshot=num_fewshot,
            limit=limit,
            task_manager=manager,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except EdgeError:
        raise
    except Exception as error:  # the harness and its tasks raise anything
        raise UnsupportedOption(f"the tasks {', '.join(tasks)} cannot be run: {first_line(error)}") from error
    return _flat(found["results"])


def _flat(results: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """`acc,none` of the task `t` as `t/acc`; with another filter as `t/acc/FILTER`."""
    figures = {}
    for task, metrics in results.items():
        for name, value in metrics.items():
            metric, _, chosen = name.partition(",")
            if isinstance(value, bool) or not isinstance(value, int | float) or not chosen:
                continue
            figures[f"{task}/{metric}" + ("" if chosen == "none" else f"/{chosen}")] = float(value)
    return figures
