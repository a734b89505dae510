"""Methods of a model that compare texts instead of writing them; `rerank` and what it stands on are verbs.

They run beside whatever else uses the model's backend, in cells of their own that they give back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Int, SequenceBackend, StepBackend
from edgesdk.backends.registry import host_cell_backends
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.embedding_record import Pooling
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.stack_record import HIDDEN, STATES
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.decoding.option_types import whole_text
from edgesdk.decoding.request_reader import RequestReader
from edgesdk.devices.receipt import Receipt
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.kv.step_model import StepModel
from edgesdk.kv.step_runner import StepRunner
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt
from edgesdk.vectors.embed_texts import NO_STATES, join_states, pool_states, states_of_texts
from edgesdk.vectors.model_embedder import ModelEmbedder
from edgesdk.vectors.read_texts import EmbeddedTexts, check_texts, vector_form
from edgesdk.vectors.rerank import (
    INSTRUCTION,
    SYSTEM,
    RankedPassage,
    question,
    rank_prompts,
    word_token,
)
from edgesdk.vectors.run_texts import RunPiece
from edgesdk.vectors.run_whole_texts import run_whole_texts

if TYPE_CHECKING:
    from edgesdk.text.chat_template import TemplateVariables  # with jinja2

QUERY = "query"
"""Name of the prompt for questions in the files of sentence-transformers."""


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

    @property
    @abstractmethod
    def bundle(self) -> Bundle:
        """What was loaded."""

    def embed(
        self,
        texts: Sequence[Prompt],
        *,
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncate: bool = False,
    ) -> NDArray[np.float32]:
        """Vectors of texts: their states behind the last norm, pooled.

        Models that were trained to embed say in their bundle how; what is given here takes its place. The
        vectors of others are the mean of the states, unless said otherwise.

        Args:
            texts: each a text, or token ids, which are taken as they are.
            pooling: `mean` of all tokens, `last` or `cls` (the first one).
            normalise: make vectors of length 1; unless said otherwise they are.
            dimensions: how many numbers of each vector stay; all of them if None.
            prompt: name of one of the bundle's prompts, or a text of your own, that stands before every text.
            truncate: cut texts that are longer than the context, and do not refuse them.

        Returns:
            (n, dimensions) float32.

        Raises:
            UnsupportedOption: an argument has no meaning, a text has no tokens, or the bundle gives no
                states.
            CapacityError: a text does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        width = self.decoder.states_size
        form = vector_form(self.bundle.manifest.embedding, width, pooling, normalise, dimensions)
        with self._states("embedding", form.pooling) as states_of:
            ids = self._embedded().read(texts, prompt, truncate=truncate)
            return pool_states(states_of(ids), ids, width, form)

    def token_states(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """States of every token behind the last norm, unpooled: what the head reads, and `embed` pools.

        Args:
            texts: token ids, at least one each.

        Returns:
            (n, E) float32 for each text of n tokens; (n, W) where states are put through a matrix of W rows.

        Raises:
            UnsupportedOption: a text has no tokens or unknown ids, or the bundle gives no states.
            CapacityError: a text does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        with self._states("states of tokens", "mean") as states_of:
            ids = self._embedded().read(texts, "", truncate=False)
            return join_states(states_of(ids), ids, self.decoder.states_size)

    def embedding_tokens(
        self, texts: Sequence[Prompt], *, prompt: str | None = None, truncate: bool = False
    ) -> list[list[int]]:
        """Token ids of texts as `embed` reads them, which takes them in place of the texts.

        Args:
            texts: as for `embed`.
            prompt: likewise.
            truncate: likewise.

        Raises:
            UnsupportedOption: an argument has no meaning, or a text has no tokens.
            CapacityError: a text does not fit the context.
        """
        return [ids.tolist() for ids in self._embedded().read(texts, prompt, truncate=truncate)]

    def embedder(
        self,
        *,
        pooling: Pooling | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        question_prompt: str | None = None,
    ) -> ModelEmbedder:
        """It as what `make_index` and `open_index` take: vectors of length 1, of texts cut to the context.

        Args:
            pooling: as for `embed`.
            dimensions: likewise.
            prompt: likewise; of passages.
            question_prompt: likewise, of questions; None for the bundle's prompt `query`, or else `prompt`.

        Raises:
            UnsupportedOption: an argument has no meaning, or the bundle gives no states.
        """
        manifest, width = self.bundle.manifest, self.decoder.states_size
        form = vector_form(manifest.embedding, width, pooling, True, dimensions)
        if not self.embeds:
            raise UnsupportedOption(NO_STATES)
        before, asking = self._embedded().prompt(prompt), self._question_prompt(question_prompt, prompt)
        numbers = self.bundle.variant(self.receipt.variant).numbers[:16]
        said = f"{form.pooling} {form.dimensions}" + (f" {before!r}" if before else "")
        embed = partial(self.embed, pooling=pooling, normalise=True, dimensions=dimensions, truncate=True)
        return ModelEmbedder(
            f"{manifest.name} {numbers} {said}",
            form.dimensions,
            partial(embed, prompt=prompt),
            partial(embed, prompt=asking),
        )

    def _question_prompt(self, given: str | None, prompt: str | None) -> str | None:
        record = self.bundle.manifest.embedding
        if given is None and record is not None and QUERY in record.prompts:
            return QUERY
        return prompt if given is None else given

    @property
    def embeds(self) -> bool:
        """Whether `embed` works: the bundle gives states, and what runs it shares its cells."""
        variant = self.bundle.variant(self.receipt.variant)
        names = {port.name for port in step_contracts(self.bundle.manifest, variant)[MAIN].outputs}
        return bool(names & {HIDDEN, STATES}) and isinstance(self.backend, StepModel)

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
        expect_causal(self.decoder)
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

    def _embedded(self) -> EmbeddedTexts:
        record = self.bundle.manifest.embedding
        return EmbeddedTexts(self.reader.tokenizer, record, self.context, self.decoder.vocab_size)

    @contextmanager
    def _states(self, what: str, pooling: Pooling) -> Iterator[Callable[[Sequence[Int]], Iterable[RunPiece]]]:
        """What runs texts for their states, in cells of its own where the model has some."""
        if not self.decoder.is_causal:
            yield partial(run_whole_texts, self._steps(what), self.decoder, self.context)
            return
        runner = self._runner(what)
        try:
            yield lambda ids: states_of_texts(runner, ids, pooling)
        finally:
            runner.close()

    def _runner(self, what: str) -> StepRunner:
        return StepRunner(self._steps(what), self.decoder, self.context)

    def _steps(self, what: str) -> StepBackend:
        backend = self.backend
        if not isinstance(backend, StepModel):
            raise UnsupportedOption(
                f"{what} needs a backend whose cells can be shared, {self.receipt.backend} keeps its "
                f"cache to itself; load the bundle with backend= one of {', '.join(host_cell_backends())}"
            )
        return backend.backend


def _two_words(answers: object) -> tuple[str, str]:
    if isinstance(answers, str) or not isinstance(answers, Sequence) or len(answers) != 2:
        raise UnsupportedOption(f"answers is {quoted(answers)}, expected a word for yes and one for no")
    return whole_text("answers[0]", answers[0]), whole_text("answers[1]", answers[1])
