"""The models of a server: one engine each, loaded when they are asked for, unloaded for one another.

A name is looked up among those that are served, never joined to a path. A model whose requests have ended is
idle; idle ones give way, least recently used first, when another needs the memory, and after a time of their
own if one is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgesdk.bundle.model_names import is_name, make_name
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.shelf import names, on_shelf, shelf_folder
from edgesdk.bundle.shelf_aliases import read_aliases
from edgesdk.engine.engine import Engine
from edgesdk.engine.engine_options import OwnKeywords
from edgesdk.errors import BundleError, EdgeError, UnsupportedOption, quoted
from edgesdk.load_model import load
from edgesdk.load_options import LoadOptions
from edgesdk.server.log import LOG
from edgesdk.server.refusal import RETRY_AFTER_S, Refused, refusal_of
from edgesdk.server.server_options import ServerOptions
from edgesdk.server.vectors_only import VectorsOnly

_LOOK_S = 1.0
_LATEST = ":latest"
"""What Ollama's clients write behind a name."""


@dataclass(eq=False)
class LoadedModel:
    """A model in memory.

    Attributes:
        name: as clients call it.
        engine: runs it, or embeds with it.
        size_bytes: of its weights and cells, as far as that is known before they are used.
        uses: requests that hold it.
        used_s: when the last one ended, on the clock of `time.monotonic`.
        embedding: held by the request whose texts are embedded.
    """

    name: str
    engine: Engine | VectorsOnly
    size_bytes: int
    uses: int = 0
    used_s: float = field(default_factory=time.monotonic)
    embedding: asyncio.Lock = field(default_factory=asyncio.Lock)

    def release(self) -> None:
        """Ends one use."""
        self.uses -= 1
        self.used_s = time.monotonic()


class ModelHost:
    """Opens models by name; all of its methods belong to one event loop."""

    def __init__(
        self,
        served: Mapping[str, Path] | None,
        loading: LoadOptions,
        engine: OwnKeywords,
        *,
        memory_bytes: int,
        idle_s: float | None = None,
        open_engine: Callable[[Path, LoadOptions, OwnKeywords], Engine | VectorsOnly] | None = None,
    ) -> None:
        """Starts with nothing loaded.

        Args:
            served: folders of bundles by name; None for all of the shelf, as it is then.
            loading: how to load them.
            engine: how their engines work.
            memory_bytes: most bytes of models at once.
            idle_s: unload what was not used for so long; None for never.
            open_engine: opens one; for tests.
        """
        self._served = served
        self._loading = loading
        self._engine = engine
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._open_engine = open_engine or _open
        self._loaded: dict[str, LoadedModel] = {}
        self._tasks: dict[str, asyncio.Task[LoadedModel]] = {}
        self._room = asyncio.Lock()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """What may be asked for, sorted."""
        return sorted({*names(), *_aliases()} if self._served is None else self._served)

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is in memory."""
        return tuple(self._loaded.values())

    def known(self, asked: str | None) -> str:
        """The name of the model that a client means, as `find` has it."""
        return self.find(asked)[0]

    def find(self, asked: str | None) -> tuple[str, str | None]:
        """The model that a client means, and its adapter: `MODEL` or `MODEL:ADAPTER`.

        Raises:
            Refused: there is none of it, or none was said and there are several.
        """
        there = self.names
        if asked is None or asked == "":
            if len(there) == 1:
                return there[0], None
            raise Refused(400, f"model is missing; there are {_listed(there)}", param="model")
        name = asked.removesuffix(_LATEST)
        if name in there:
            return self._own_name(name), None
        model, _, adapter = name.partition(":")
        if adapter and model in there:
            model = self._own_name(model)
            known = self.adapters(model)
            if adapter in known:
                return model, adapter
            raise Refused(
                404,
                f"the model {model} has no adapter {quoted(adapter, 60)}; there are {_listed(known)}",
                param="model",
                code="model_not_found",
            )
        raise Refused(
            404,
            f"there is no model {quoted(asked, 60)}; there are {_listed(there)}",
            param="model",
            code="model_not_found",
        )

    def adapters(self, name: str) -> list[str]:
        """The adapters of a known name; none of one that cannot be read now.

        Those of a model in memory are known; of another the manifest is read.
        """
        loaded = self._loaded.get(name)
        try:
            bundle = open_bundle(self.path(name)) if loaded is None else loaded.engine.model.bundle
        except (Refused, EdgeError):
            return []
        return [record.name for record in bundle.manifest.adapters]

    async def all_adapters(self) -> dict[str, list[str]]:
        """The adapters of all names, as `adapters` has them; manifests are read beside the event loop."""
        return {
            name: self.adapters(name)
            if name in self._loaded
            else await asyncio.to_thread(self.adapters, name)
            for name in self.names
        }

    def path(self, name: str) -> Path:
        """The folder of a known name.

        Raises:
            Refused: it has gone from the shelf.
        """
        if self._served is not None:
            return self._served[name]
        found = on_shelf(name)
        if found is None:  # it went since
            raise Refused(404, f"there is no model {quoted(name, 60)} any more", param="model")
        return found

    async def lease(self, asked: str | None) -> LoadedModel:
        """A model in use, loaded if it was not; the caller's to `release`.

        Raises:
            Refused: there is no such model, or it cannot be loaded now.
        """
        name = self.known(asked)
        while True:
            found = self._loaded.get(name)
            if found is not None:
                found.uses += 1
                return found
            if name not in self._tasks:
                self._tasks[name] = asyncio.ensure_future(self._load(name))
                self._tasks[name].add_done_callback(lambda task: self._tasks.pop(name, None) and None)
            # A client that goes must not stop what others wait for.
            found = await asyncio.shield(self._tasks[name])
            if self._loaded.get(name) is found:
                found.uses += 1
                return found

    def preload(self, wanted: Sequence[str]) -> None:
        """Loads models before there is an event loop, in order, as far as the memory allows.

        Raises:
            EdgeError: one cannot be loaded.
        """
        for name in wanted:
            path = self.path(name)
            size = _size_bytes(path)
            if self._loaded and sum(each.size_bytes for each in self.loaded) + size > self._memory_bytes:
                return
            self._keep(name, self._open_engine(path, self._loading, self._engine), size)

    def _own_name(self, name: str) -> str:
        """One name, and one engine, for a model and its aliases."""
        return name if self._served is not None else self.path(name).name

    async def unload(self, name: str) -> bool:
        """Unloads a model that nobody uses; False where somebody does, or it is not loaded."""
        found = self._loaded.get(name)
        if found is None or found.uses:
            return False
        del self._loaded[name]
        await asyncio.to_thread(found.engine.close, False)
        LOG.info("unloaded %s", name)
        return True

    async def start(self) -> None:
        """Begins to look after idle models."""
        if self._idle_s is not None:
            self._sweeper = asyncio.ensure_future(self._sweep(self._idle_s))

    async def close(self) -> None:
        """Unloads everything; what is being answered is cancelled."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        loaded, self._loaded = list(self._loaded.values()), {}
        for each in loaded:
            await asyncio.to_thread(each.engine.close, False)

    async def _load(self, name: str) -> LoadedModel:
        path = self.path(name)
        async with self._room:
            try:
                size = await asyncio.to_thread(_size_bytes, path)
                await self._make_room(name, size)
                engine = await asyncio.to_thread(self._open_engine, path, self._loading, self._engine)
            except EdgeError as error:
                raise (
                    refusal_of(error)
                    if not isinstance(error, BundleError)
                    else Refused(503, f"the model {name} cannot be loaded: {error}")
                ) from error
            return self._keep(name, engine, size)

    def _keep(self, name: str, engine: Engine | VectorsOnly, size: int) -> LoadedModel:
        receipt = engine.model.receipt
        LOG.info("loaded %s in %.0f ms: %s on %s", name, receipt.load_ms, receipt.variant, receipt.backend)
        found = LoadedModel(name, engine, size)
        self._loaded[name] = found
        return found

    async def _make_room(self, name: str, size: int) -> None:
        while self._loaded and sum(each.size_bytes for each in self.loaded) + size > self._memory_bytes:
            idle = sorted((each for each in self.loaded if not each.uses), key=lambda each: each.used_s)
            if not idle:
                raise Refused(
                    503,
                    f"there is no memory for {name} while other models answer; try again later",
                    code="no_memory",
                    retry_after_s=RETRY_AFTER_S,
                )
            await self.unload(idle[0].name)

    async def _sweep(self, idle_s: float) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_S, idle_s))
            for each in self.loaded:
                if not each.uses and time.monotonic() - each.used_s >= idle_s:
                    await self.unload(each.name)


def memory_bytes(options: ServerOptions) -> int:
    """Most bytes of models at once: what was said, or half of the machine's memory."""
    if options.memory_limit_mb is not None:
        return options.memory_limit_mb << 20
    import psutil

    return int(psutil.virtual_memory().total) // 2


def served_names(folders: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Names for bundles that are served: names and aliases as they were said, others by their folder.

    Args:
        folders: what was said, and the folder of the bundle.

    Raises:
        UnsupportedOption: two would have the same.
    """
    found: dict[str, Path] = {}
    for said, folder in folders:
        name = said if is_name(said) else make_name(folder.resolve().name.removesuffix(".edge"))
        if name in found:
            raise UnsupportedOption(
                f"two models would be called {name}: {found[name]} and {folder}; rename one"
            )
        found[name] = folder
    return found


def _aliases() -> list[str]:
    """Further names of what is on the shelf."""
    found = read_aliases(shelf_folder())
    return [name for name in found if on_shelf(name) is not None]


def _open(path: Path, loading: LoadOptions, own: OwnKeywords) -> Engine | VectorsOnly:
    if not open_bundle(path).manifest.decoder.is_causal:
        vectors = VectorsOnly(load(path, loading))
        vectors.model.tokenize("Hello")
        return vectors
    engine = Engine(path, loading, **own)
    # Tokenizer and template are read on first use, which would be somebody's first token.
    if engine.model.chat_template is not None:
        with contextlib.suppress(EdgeError):  # a template may insist on more
            engine.model.render_chat([{"role": "user", "content": "Hello"}])
    else:
        engine.model.tokenize("Hello")
    return engine


def _size_bytes(path: Path) -> int:
    """Bytes of the largest variant's files: what a model takes at least."""
    bundle = open_bundle(path)
    sizes: dict[str, int] = {}
    for name, record in bundle.manifest.files.items():
        folder = "/".join(name.split("/")[:2]) if name.startswith("variants/") else ""
        sizes[folder] = sizes.get(folder, 0) + record.size_bytes
    shared = sizes.pop("", 0)
    return shared + max(sizes.values(), default=0)


def _listed(there: list[str]) -> str:
    shown = [each for each in there[:8] if is_name(each) or len(each) <= 80]
    return ", ".join(shown) + (", ..." if len(there) > len(shown) else "") if there else "none"
