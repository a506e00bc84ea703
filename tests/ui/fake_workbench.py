"""A workbench without an engine or a pool: scripted models under the real catalog and chat.

A message steers the answer: "fail" breaks off after two tokens, "boom" raises what nobody expects, "slow"
writes until it is stopped, "too long" is refused, "say:" is answered with what follows. Everything else is
echoed. `fails` and `refuses` name models that do so whatever they are asked.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from workbench.access.access import Access
from workbench.access.keys import new_key
from workbench.catalog.store import Catalog
from workbench.chat.answer import Answering
from workbench.chat.conversations import Conversations
from workbench.chat.turns import Turns
from workbench.engine.spec import GenerationChunk, ModelSpec
from workbench.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    ShuttingDownError,
    WorkerDiedError,
)
from workbench.measurements import Measurements
from workbench.pool.scheduling import NO_CLAIM, Claim
from workbench.pool.snapshot import SwapRecord
from workbench.settings import Settings
from workbench.values import (
    Departure,
    DeviceSnapshot,
    GivingWay,
    KvCacheView,
    MachineLoad,
    ModelView,
    PoolDetails,
    PoolSnapshot,
    Progress,
    RunnerSnapshot,
    SamplingOptions,
    TimelineRow,
    TimelineSpan,
    WaiterSnapshot,
    WorkerSnapshot,
)

GB = 10**9
MB = 10**6

MODELS = (
    ModelView("adder", "data/demo/adder", "disk", "LlamaForCausalLM", 860_000, 3_440_000, 256, "Apache-2.0",
              "Adds two numbers of up to two digits", served_length=256, defaults={"temperature": 0.7}),
    ModelView("storyteller", "data/demo/storyteller", "disk", "Qwen3ForCausalLM", 2_400_000, 9_600_000, 512,
              "Apache-2.0", "Tells small stories", served_length=512),
    ModelView("qwen3-0.6b", "Qwen/Qwen3-0.6B", "hub", "Qwen3ForCausalLM", 596_000_000, 1_190_000_000, 32768,
              "Apache-2.0", "A small multilingual chat model"),
    ModelView("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "downloading", "LlamaForCausalLM",
              362_000_000, 724_000_000, 8192, "Apache-2.0", "For machines with little memory",
              download_done_bytes=310_000_000, download_total_bytes=724_000_000),
    ModelView("broken", "/models/broken", "broken", "", 0, 0, 0, "", "", error="config.json is not JSON."),
)  # fmt: skip


class FakeWorkbench:
    """What the page sees of a workbench. `step_s` is the time of one token or load stage."""

    def __init__(self, step_s: float = 0.02, **settings: Any) -> None:
        self.settings = Settings(_env_file=None, **settings)
        self._step_s = step_s
        self._version = 0
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self.step_s = self._step_s
        self.catalog = {model.name: model for model in MODELS}
        self._store = Catalog.open(Path(tempfile.mkdtemp(), "workbench.db"))
        self.access = Access(self._store.keys, self.settings)
        self.measurements = Measurements(self._store)
        self._answering = Answering(self._store, self, self.measurements)
        self.aborted = 0
        self.warm_workers = 2
        self.in_flight = 0
        self.fails = ""
        self.refuses = ""
        self.stage: Progress | None = None
        self.pool_admin = FakePoolAdmin(self)
        self.waiters: tuple[WaiterSnapshot, ...] = ()
        self.calls: list[tuple[str, Any]] = []
        self.kv: list[KvCacheView] = []
        self.touch()

    def take_over(self, other: "FakeWorkbench") -> None:
        """Have the conversations of another one, as after a restart."""
        self._store, self.measurements = other._store, other.measurements
        self._answering = Answering(self._store, self, self.measurements)

    # Keys, changed as by another process.

    def add_key(self, name: str, scope: str = "chat", **limits: int) -> str:
        secret, row = new_key(name, scope, **limits)
        self._store.keys.add(row)
        self.access._take(*self._store.keys.read(time.time()))
        return secret

    def revoke_key(self, name: str) -> None:
        self._store.keys.remove(name)
        self.access._take(*self._store.keys.read(time.time()))

    # Models.

    @property
    def changes(self) -> int:
        return self._version

    @property
    def models(self) -> list[ModelView]:
        if self._closed:
            raise ShuttingDownError("Workbench is not running.")
        return list(self.catalog.values())

    def model(self, name: str) -> ModelView:
        if name not in self.catalog:
            raise NotFoundError(f"There is no model named {name}.")
        return self.catalog[name]

    async def add_hub_model(self, repo_id: str, revision: str = "", name: str = "") -> ModelView:
        if "/" not in repo_id:
            raise BadRequestError(f"{repo_id} is not a hub id; write it as owner/name.")
        name = name or repo_id.split("/")[1].lower()
        self.catalog[name] = ModelView(name, repo_id, "hub", "", 0, 0, 0, "", "")
        await self.download(name)
        return self.catalog[name]

    async def add_local_model(self, folder: str, name: str = "") -> ModelView:
        if not str(folder).startswith("/models/"):
            raise BadRequestError(f"{folder} is outside the folders that models may come from.")
        name = name or str(folder).rsplit("/", 1)[1]
        self.catalog[name] = ModelView(name, folder, "disk", "LlamaForCausalLM", 10**6, 4 * MB, 512, "", "")
        self.touch()
        return self.catalog[name]

    async def download(self, name: str) -> None:
        self._set(name, residency="downloading", download_done_bytes=1, download_total_bytes=GB)

    async def cancel_download(self, name: str) -> None:
        self._set(name, residency="hub")

    async def remove_model(self, name: str, delete_files: bool = False) -> None:
        self.calls.append(("remove_model", (name, delete_files)))
        del self.catalog[name]
        self.touch()

    # Chat: the real catalog and turns, over models that are made up.

    @property
    def conversations(self) -> Conversations:
        return Conversations(self._store.chats, self._answering.check_free)

    def chat(self, model: str, text: str, **about: Any) -> AsyncIterator[Any]:
        self.calls.append(("chat", (model, text, about.get("system"), about.get("options"))))
        return self._turns().chat(model, text, *_in_order(about))

    def regenerate(
        self, conversation_id: int, *, model: str = "", system: str | None = None, options: SamplingOptions
    ) -> Any:
        self.calls.append(("regenerate", (conversation_id, model)))
        return self._turns().regenerate(conversation_id, model, system, options)

    def continue_answer(self, conversation_id: int, *, options: SamplingOptions) -> Any:
        return self._turns().continue_answer(conversation_id, options)

    def compare(self, models: Sequence[str], text: str | None, **about: Any) -> Any:
        return self._turns().compare(models, text, *_in_order(about))

    def _turns(self) -> Turns:
        return Turns(self._store, self._answering, self._servable)

    async def _servable(self, name: str) -> ModelSpec:
        model = self.model(name)
        if model.residency in ("hub", "downloading"):
            raise ConflictError(f"{name} is not downloaded. Download it on the Models page first.")
        return ModelSpec(name, model.source, model.weight_bytes, 0, model.context_length)

    @asynccontextmanager
    async def ask(self, spec: ModelSpec, claim: Claim = NO_CLAIM) -> AsyncIterator["FakeTicket"]:
        """As the controller: a ticket for a model."""
        self.in_flight += 1
        self.touch()
        try:
            yield FakeTicket(self, spec.name)
        finally:
            self.in_flight -= 1
            self.touch()

    async def generate(
        self, model: str, messages: Sequence[dict[str, str]], go_on: bool
    ) -> AsyncIterator[GenerationChunk]:
        """As a model: say the question again, or what the message at the top of this file says."""
        text = next(turn["content"] for turn in reversed(messages) if turn["role"] == "user")
        if "too long" in text or self.refuses == model:
            raise BadRequestError("The prompt has 700 tokens; adder takes 256 with its answer.")
        words = [f"{word} " for word in text.split(" ")]
        pieces = words if go_on else [f"{model} ", "says: ", *words]
        if text == "slow":
            pieces = [f"word{number} " for number in range(100_000)]
        if text.startswith("say:"):
            pieces = [text.removeprefix("say:")]
        ended = False
        try:
            for count, piece in enumerate(pieces, start=1):
                await asyncio.sleep(self.step_s)
                if text == "boom":
                    raise ZeroDivisionError("a bug")
                if (text == "fail" or self.fails == model) and count > 2:
                    raise WorkerDiedError(f"The worker that ran {model} died. Send the message again.")
                last = count == len(pieces)
                yield GenerationChunk(piece, count, 12, 0, "stop" if last else None)
            ended = True
        except (WorkerDiedError, ZeroDivisionError):
            ended = True
            raise
        finally:
            self.aborted += not ended

    async def _switch(self, model: str) -> AsyncIterator[Progress]:
        while not self.pool().warm:
            yield Progress("starting", "Warming up a worker")
            await asyncio.sleep(self.step_s)
        serving = [view.name for view in self.models if view.residency == "device"]
        if serving:
            yield Progress("evicting", f"Evicting {serving[0]}")
            await asyncio.sleep(self.step_s)
            self._set(serving[0], residency="disk")
        self._set(model, residency="loading")
        for done in (0.4, 1.2, 1.9):
            self.stage = Progress("loading", "Loading weights", int(done * GB), int(1.9 * GB))
            self.touch()
            yield self.stage
            await asyncio.sleep(self.step_s)
        self.stage = None
        self._set(model, residency="device")

    # Pool.

    def pool(self) -> PoolSnapshot:
        held = [view for view in self.models if view.residency in ("device", "loading")]
        workers, now = [], time.monotonic()
        for number in range(2):
            model = held[number].name if number < len(held) else None
            state = "starting" if number >= self.warm_workers else "serving" if model else "warm"
            workers.append(
                WorkerSnapshot(
                    f"worker-{number + 1}",
                    "cpu",
                    state,
                    now - 42,
                    model,
                    4100 + number,
                    612 * MB,
                    0,
                    now - 4000,
                    3,
                    self.in_flight if model else 0,
                    f"worker-{number + 1}" in self.pool_admin.draining,
                )
            )
        runners = tuple(
            RunnerSnapshot(view.name, "loading" if view.residency == "loading" else "serving", "cpu",
                           view.weight_bytes + 64 * MB, self.in_flight, now - 12, self.stage,
                           weight_bytes=view.weight_bytes, kv_cache_bytes=64 * MB,
                           context_length=view.context_length, pinned=view.pinned,
                           workers=(f"worker-{number}",))
            for number, view in enumerate(held, start=1)
        )  # fmt: skip
        used = sum(runner.device_bytes for runner in runners)
        device = DeviceSnapshot("cpu", "Processor, 2 cores", 400 * MB, used)
        return PoolSnapshot(tuple(workers), runners, self.waiters, (device,), now)

    def switch_estimates(self) -> dict[str, float]:
        return {view.name: 0.3 for view in self.models if view.residency == "disk"}

    async def kv_caches(self) -> list[KvCacheView]:
        return self.kv

    async def load(self, model: str) -> None:
        async for _ in self._switch(model):
            pass

    async def unload(self, model: str, force: bool = False) -> None:
        if self.in_flight and not force:
            raise ConflictError(f"{model} has {self.in_flight} request in flight; unloading cuts it off.")
        self._set(model, residency="disk")

    def close(self) -> None:
        self._closed = True
        self.touch()

    def touch(self) -> None:
        """Say that the pool has changed."""
        self._version += 1

    def _set(self, name: str, **changes: Any) -> None:
        self.catalog[name] = replace(self.model(name), **changes)
        self.touch()


def _in_order(about: dict[str, Any]) -> tuple[Any, ...]:
    return about.get("conversation_id"), about.get("system"), about.get("options") or SamplingOptions()


class FakeTicket:
    """As the controller's."""

    def __init__(self, workbench: FakeWorkbench, model: str) -> None:
        self._workbench = workbench
        self._model = model
        self._began = time.monotonic()
        self._switched = workbench.model(model).residency != "device"

    async def stages(self) -> AsyncIterator[Progress]:
        if self._switched:
            async for progress in self._workbench._switch(self._model):
                yield progress

    async def lease(self) -> SimpleNamespace:
        waited_s = time.monotonic() - self._began
        swap = SwapRecord(self._model, "worker-1", "cpu", 0.0, "disk", (), "ok", total_s=waited_s)
        return SimpleNamespace(
            waited_s=waited_s, swap=swap if self._switched else None, client=self, priority=0
        )

    def generate(
        self, messages, _options, _request_id, *, go_on=False, priority=0, trace_headers=None
    ) -> AsyncIterator[GenerationChunk]:
        return self._workbench.generate(self._model, messages, go_on)


class FakeProfiles:
    """Records nothing, at once; no worker but the first serves."""

    def __init__(self) -> None:
        self.error = ""

    async def start(self, worker_id: str, seconds: float, steps: int) -> SimpleNamespace:
        if worker_id != "worker-1":
            raise ConflictError(f"{worker_id} serves no model now.")
        return SimpleNamespace(name=f"{worker_id}-{seconds:.0f}-{steps}", error=self.error)

    async def ended(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, error=self.error)


class FakePoolAdmin:
    """What the Pool page sees besides: a machine, a history, logs that a test writes."""

    def __init__(self, workbench: FakeWorkbench) -> None:
        self._workbench = workbench
        self.draining: set[str] = set()
        self.profiles = FakeProfiles()
        self.departures: tuple[Departure, ...] = ()
        self.logs: dict[str, list[list[str]]] = {}
        """Batches of lines by worker; it is as if the worker had ended after the last one."""

    async def pin(self, model: str, pinned: bool = True) -> None:
        self._workbench._set(model, pinned=pinned)

    async def restart(self, worker_id: str, force: bool = False) -> None:
        self._workbench.calls.append(("restart", (worker_id, force)))
        in_flight = self._workbench.in_flight
        if in_flight and not force:
            raise ConflictError(f"{worker_id} has {in_flight} request in flight; a restart cuts it off.")

    async def drain(self, worker_id: str, force: bool = False) -> None:
        if not force:
            raise ConflictError(f"{self._workbench.in_flight} requests of adder are being answered.")
        self.draining.add(worker_id)
        self._workbench.touch()

    async def details(self) -> PoolDetails:
        runners = self._workbench.pool().runners
        goes = tuple(runner.model for runner in runners if not (runner.pinned or runner.in_flight))
        stays = {runner.model: "is pinned" for runner in runners if runner.pinned}
        now = time.monotonic()
        rows = tuple(
            TimelineRow(
                worker, "cpu", now - 400, 0.0, (TimelineSpan(runner.model, "serving", now - 60, 0.0),)
            )
            for runner in runners
            for worker in runner.workers
        )
        machine = MachineLoad(2, 5 * GB, 16 * GB, {"worker-1": 0.8})
        numbers = {model: number for number, model in enumerate(self._workbench.catalog)}
        giving = {"cpu": GivingWay(goes, frozenset(goes), stays=stays)}
        return PoolDetails(machine, giving, rows, self.departures, numbers, now)

    def follow_log(self, worker_id: str) -> AsyncIterator[list[str]]:
        if worker_id not in self.logs:
            raise NotFoundError(f"There is no worker {worker_id}, and none that ended lately.")

        async def batches() -> AsyncIterator[list[str]]:
            for lines in self.logs[worker_id]:
                yield lines
                await asyncio.sleep(0.3)

        return batches()
