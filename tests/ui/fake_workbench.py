"""A workbench without an engine: scripted models behind the service's signatures, for the page's tests.

A message steers the answer: "fail" breaks off after two tokens, "boom" raises what nobody expects, "slow"
writes until it is stopped, "too long" is refused. Everything else is echoed.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from workbench.catalog.tables import Request, Swap
from workbench.errors import BadRequestError, ConflictError, NotFoundError, WorkerDiedError
from workbench.measurements import Measurements
from workbench.service import (
    AnswerStats,
    ConversationView,
    Departure,
    DeviceSnapshot,
    Finished,
    GivingWay,
    KvCacheView,
    MachineLoad,
    MessageView,
    ModelView,
    PoolDetails,
    PoolSnapshot,
    Progress,
    RunnerSnapshot,
    SamplingOptions,
    TimelineRow,
    TimelineSpan,
    Token,
    WaiterSnapshot,
    WorkerSnapshot,
)
from workbench.settings import Settings

GB = 10**9
MB = 10**6

MODELS = (
    ModelView("adder", "data/demo/adder", "disk", "LlamaForCausalLM", 860_000, 3_440_000, 256, "Apache-2.0",
              "Adds two numbers of up to two digits"),
    ModelView("storyteller", "data/demo/storyteller", "disk", "Qwen3ForCausalLM", 2_400_000, 9_600_000, 512,
              "Apache-2.0", "Tells small stories"),
    ModelView("qwen3-0.6b", "Qwen/Qwen3-0.6B", "hub", "Qwen3ForCausalLM", 596_000_000, 1_190_000_000, 32768,
              "Apache-2.0", "A small multilingual chat model"),
    ModelView("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "downloading", "LlamaForCausalLM",
              362_000_000, 724_000_000, 8192, "Apache-2.0", "For machines with little memory",
              download_done_bytes=310_000_000, download_total_bytes=724_000_000),
    ModelView("broken", "/models/broken", "broken", "", 0, 0, 0, "", "", error="config.json is not JSON."),
)  # fmt: skip


class Forgetful:
    """In place of the catalog, for measurements that no other run will read."""

    def record_request(self, request: Request) -> None:
        pass

    def record_swap(self, swap: Swap) -> None:
        pass


class FakeWorkbench:
    """What the page sees of a workbench. `step_s` is the time of one token or load stage."""

    def __init__(self, step_s: float = 0.02) -> None:
        self.settings = Settings(_env_file=None)
        self._step_s = step_s
        self._version = 0
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self.step_s = self._step_s
        self.catalog = {model.name: model for model in MODELS}
        self.chats: dict[int, ConversationView] = {}
        self.turns: dict[int, list[MessageView]] = {}
        self.aborted = 0
        self.warm_workers = 2
        self.in_flight = 0
        self.stage: Progress | None = None
        self.pool_admin = FakePoolAdmin(self)
        self.waiters: tuple[WaiterSnapshot, ...] = ()
        self.calls: list[tuple[str, Any]] = []
        self.kv: list[KvCacheView] = []
        self._ids = itertools.count(1)
        self.measurements = Measurements(Forgetful())
        self.touch()

    # Models.

    @property
    def models(self) -> list[ModelView]:
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
        return self.catalog[name]

    async def download(self, name: str) -> None:
        self._set(name, residency="downloading", download_done_bytes=1, download_total_bytes=GB)

    async def cancel_download(self, name: str) -> None:
        self._set(name, residency="hub")

    async def remove_model(self, name: str, delete_files: bool = False) -> None:
        self.calls.append(("remove_model", (name, delete_files)))
        del self.catalog[name]
        self.touch()

    # Conversations.

    async def conversations(self, search: str = "") -> list[ConversationView]:
        return sorted(self.chats.values(), key=lambda view: -view.updated_at)

    async def create_conversation(self, model: str = "", system: str = "") -> int:
        chat = next(self._ids)
        self.chats[chat] = ConversationView(chat, "", model, time.time(), 0)
        self.turns[chat] = []
        if system:
            self._keep(chat, MessageView(next(self._ids), "system", system, "", None, ""))
        return chat

    async def messages(self, conversation_id: int) -> list[MessageView]:
        return list(self.turns[conversation_id])

    async def rename_conversation(self, conversation_id: int, title: str) -> None:
        self.chats[conversation_id] = replace(self.chats[conversation_id], title=title)

    async def delete_conversation(self, conversation_id: int) -> None:
        del self.chats[conversation_id], self.turns[conversation_id]

    async def chat(
        self,
        model: str,
        text: str,
        *,
        conversation_id: int | None = None,
        system: str = "",
        options: SamplingOptions | None = None,
    ) -> AsyncIterator[Progress | Token | Finished]:
        self.calls.append(("chat", (model, text, system, options)))
        if not text.strip():
            raise BadRequestError("The message is empty. Write something to send.")
        if "too long" in text:
            raise BadRequestError("The prompt has 700 tokens; adder takes 256 with its answer.")
        if self.model(model).residency in ("hub", "downloading"):
            raise ConflictError(f"{model} is not downloaded. Download it on the Models page first.")
        chat = conversation_id or await self.create_conversation(model, system)
        self._keep(chat, MessageView(next(self._ids), "user", text, model, None, ""))
        title = self.chats[chat].title or text[:40]
        self.chats[chat] = replace(self.chats[chat], title=title, model=model, updated_at=time.time())
        started, reason = time.monotonic(), ""
        switched = self.catalog[model].residency != "device"
        written, count, error, finish = "", 0, "", "abort"
        self.in_flight += 1
        self.touch()
        try:
            if switched:
                async for progress in self._switch(model):
                    yield progress
                reason = "loaded from disk"
            first = time.monotonic()
            for count, piece in enumerate(self._answer(model, text), start=1):
                await asyncio.sleep(self.step_s)
                if text == "boom":
                    raise ZeroDivisionError("a bug")
                if text == "fail" and count > 2:
                    error = f"The worker that ran {model} died. Send the message again."
                    raise WorkerDiedError(error)
                written += piece
                yield Token(piece, count)
            finish = "stop"
        finally:
            self.in_flight -= 1
            self.aborted += finish == "abort" and not error
            now = time.monotonic()
            stats = AnswerStats(12, count, 0, 0.12, first - started if switched and count else 0.0, reason,
                                count / max(now - started, 0.001), now - started, finish)  # fmt: skip
            if chat in self.turns:
                self._keep(chat, MessageView(next(self._ids), "assistant", written, model, stats, error))
            self.touch()
        yield Finished(chat, written, stats)

    def _answer(self, model: str, text: str) -> list[str]:
        if text == "slow":
            return [f"word{number} " for number in range(100_000)]
        return [f"{model} ", "says: "] + [f"{word} " for word in text.split(" ")]

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
        workers = []
        for number in range(2):
            model = held[number].name if number < len(held) else None
            state = "starting" if number >= self.warm_workers else "serving" if model else "warm"
            workers.append(
                WorkerSnapshot(
                    f"worker-{number + 1}",
                    "cpu",
                    state,
                    42.0,
                    model,
                    4100 + number,
                    612 * MB,
                    0,
                    4000.0,
                    3,
                    self.in_flight if model else 0,
                    f"worker-{number + 1}" in self.pool_admin.draining,
                )
            )
        runners = tuple(
            RunnerSnapshot(view.name, "loading" if view.residency == "loading" else "serving", "cpu",
                           view.weight_bytes + 64 * MB, self.in_flight, 12.0, self.stage,
                           weight_bytes=view.weight_bytes, kv_cache_bytes=64 * MB,
                           context_length=view.context_length, pinned=view.pinned,
                           workers=(f"worker-{number}",))
            for number, view in enumerate(held, start=1)
        )  # fmt: skip
        used = sum(runner.device_bytes for runner in runners)
        device = DeviceSnapshot("cpu", "Processor, 2 cores", 400 * MB, used)
        return PoolSnapshot(tuple(workers), runners, self.waiters, (device,))

    async def pool_changes(self) -> AsyncIterator[PoolSnapshot]:
        shown = None
        while not self._closed:
            if shown != self._version:
                shown = self._version
                yield self.pool()
            await asyncio.sleep(0.02)  # no event: tests change things from their own thread

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

    async def restart_worker(self, worker_id: str, force: bool = False) -> None:
        self.calls.append(("restart_worker", (worker_id, force)))
        if self.in_flight and not force:
            raise ConflictError(f"{worker_id} has {self.in_flight} request in flight; a restart cuts it off.")

    def close(self) -> None:
        self._closed = True
        self.touch()

    def touch(self) -> None:
        """Say that the pool has changed."""
        self._version += 1

    def _set(self, name: str, **changes: Any) -> None:
        self.catalog[name] = replace(self.model(name), **changes)
        self.touch()

    def _keep(self, chat: int, message: MessageView) -> None:
        self.turns[chat].append(message)


class FakePoolAdmin:
    """What the Pool page sees besides: a machine, a history, logs that a test writes."""

    def __init__(self, workbench: FakeWorkbench) -> None:
        self._workbench = workbench
        self.draining: set[str] = set()
        self.departures: tuple[Departure, ...] = ()
        self.logs: dict[str, list[list[str]]] = {}
        """Batches of lines by worker; it is as if the worker had ended after the last one."""

    async def pin(self, model: str, pinned: bool = True) -> None:
        self._workbench._set(model, pinned=pinned)

    async def drain(self, worker_id: str, force: bool = False) -> None:
        if not force:
            raise ConflictError(f"{self._workbench.in_flight} requests of adder are being answered.")
        self.draining.add(worker_id)
        self._workbench.touch()

    async def details(self) -> PoolDetails:
        runners = self._workbench.pool().runners
        goes = tuple(runner.model for runner in runners if not (runner.pinned or runner.in_flight))
        stays = {runner.model: "is pinned" for runner in runners if runner.pinned}
        rows = tuple(
            TimelineRow(worker, "cpu", 400.0, 0.0, (TimelineSpan(runner.model, "serving", 60.0, 0.0),))
            for runner in runners
            for worker in runner.workers
        )
        machine = MachineLoad(2, 5 * GB, 16 * GB, {"worker-1": 0.8})
        numbers = {model: number for number, model in enumerate(self._workbench.catalog)}
        giving = {"cpu": GivingWay(goes, frozenset(goes), stays=stays)}
        return PoolDetails(machine, giving, rows, self.departures, numbers)

    def follow_log(self, worker_id: str) -> AsyncIterator[list[str]]:
        if worker_id not in self.logs:
            raise NotFoundError(f"There is no worker {worker_id}, and none that ended lately.")

        async def batches() -> AsyncIterator[list[str]]:
            for lines in self.logs[worker_id]:
                yield lines
                await asyncio.sleep(0.3)

        return batches()
