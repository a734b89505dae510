"""Calibration text as a model reads it: its own tokens, conversations in its own template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgesdk.bundle.drafts import scratch_folder
from edgesdk.text.chat_template import ChatTemplate
from edgesdk.text.tokenizer import Tokenizer
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.quantise.calibration.calibration_text import CalibrationText, Window


def calibration_windows(
    checkpoint: Checkpoint, sample: CalibrationText, length: int, tokens: int
) -> list[Window]:
    """Windows of a sample.

    Args:
        checkpoint: whose tokenizer and template.
        sample: text.
        length: tokens of a window.
        tokens: of all windows together, about.

    Returns:
        (length,) int32 each, of all domains of the sample in turn.

    Raises:
        UnsupportedOption: the sample is shorter than one window.
    """
    files = checkpoint.tokenizer
    record = files.record
    with scratch_folder() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(files.tokenizer_json, encoding="utf-8")
        tokenizer = Tokenizer(path, record)
        render = None
        if files.chat_template is not None:
            template = ChatTemplate(
                files.chat_template, bos_token=record.bos_token, eos_token=record.eos_token
            )

            def render(messages: Sequence[Mapping[str, str]]) -> str:
                return template.render(messages, add_generation_prompt=False)

        return sample.sequences(tokenizer.encode, length, tokens, render=render)
