"""Methods of a model that compare texts instead of writing them; `rerank` and what it stands on are verbs.

They run beside whatever else uses the model's backend, in cells of their own that they give back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgesdk.backends.protocol import SequenceBackend
from edgesdk.backends.registry import host_cell_backends
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.decoding.option_types import whole_text
from edgesdk.decoding.request_reader import RequestReader
from edgesdk.devices.receipt import Receipt
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.kv.step_model import StepModel
from edgesdk.kv.step_runner import StepRunner
from edgesdk.text.conversation import Conversation
from edgesdk.vectors.rerank import (
    INSTRUCTION,
    MOST_TEXTS,
    SYSTEM,
    RankedPassage,
    question,
    rank_prompts,
    word_token,
)

if TYPE_CHECKING:
    from edgesdk.text.chat_template import TemplateVariables  # with jinja2


class Comparing:
    """What compares texts: a `Model`."""

    @property
    @abstractmethod
    def reader(self) -> RequestReader:
        """What reads requests."""

    @property
    @abstractmethod
    def backend(self) -> SequenceBackend:
        """What runs."""

    @property
    @abstractmethod
    def decoder(self) -> DecoderSpec:
        """Shape of what runs."""

    @property
    @abstractmethod
    def receipt(self) -> Receipt:
        """How it was loaded."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Most tokens of a text."""

    def rerank(
        self,
        query: str,
        passages: Sequence[str],
        *,
        instruction: str = INSTRUCTION,
        answers: tuple[str, str] = ("yes", "no"),
        template_variables: TemplateVariables | None = None,
    ) -> list[RankedPassage]:
        """Ranks passages by how well they answer a query, by the model's own yes or no; the best comes first.

        Args:
            query: the question.
            passages: texts to rank.
            instruction: what makes a passage a good one.
            answers: words for yes and no; of each the first token counts.
            template_variables: values of what else the chat template reads; `enable_thinking=False` for a
                model that thinks first.

        Raises:
            UnsupportedOption: an argument has no meaning, the model has no chat template, or the backend
                keeps its cache to itself.
            CapacityError: a passage does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        asked, told = whole_text("query", query), whole_text("instruction", instruction)
        texts = check_texts("passages", passages)
        yes, no = (word_token(self.reader.tokenizer, word) for word in _two_words(answers))
        if yes == no:
            raise UnsupportedOption(f"the answers {quoted(answers)} begin with the same token; take others")
        runner = self._runner("reranking")
        prompts = []
        for text in texts:
            words = [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": question(asked, text, told)},
            ]
            conversation = Conversation(words, template_variables=template_variables)
            prompts.append(np.asarray(self.reader.render(conversation, self.context), np.int32))
        try:
            return rank_prompts(runner, prompts, yes, no)
        finally:
            runner.close()

    def _runner(self, what: str) -> StepRunner:
        backend = self.backend
        if not isinstance(backend, StepModel):
            raise UnsupportedOption(
                f"{what} needs a backend whose cells can be shared, {self.receipt.backend} keeps its "
                f"cache to itself; load the bundle with backend= one of {', '.join(host_cell_backends())}"
            )
        return StepRunner(backend.backend, self.decoder, self.context)


def check_texts(name: str, texts: object) -> list[str]:
    """Texts of a caller.

    Raises:
        UnsupportedOption: they are none.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise UnsupportedOption(f"{name} is {quoted(texts)}, expected a list of texts")
    if len(texts) > MOST_TEXTS:
        raise UnsupportedOption(f"{name} has {len(texts)} texts, expected at most {MOST_TEXTS}")
    return [whole_text(f"{name}[{place}]", text) for place, text in enumerate(texts)]


def _two_words(answers: object) -> tuple[str, str]:
    if isinstance(answers, str) or not isinstance(answers, Sequence) or len(answers) != 2:
        raise UnsupportedOption(f"answers is {quoted(answers)}, expected a word for yes and one for no")
    return whole_text("answers[0]", answers[0]), whole_text("answers[1]", answers[1])
