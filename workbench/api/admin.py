"""`/admin`: models, workers, queue, records and profiles, for scripts. The page has all of it too."""

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from workbench.api.admin_schemas import (
    Health,
    HubModel,
    KvInfo,
    Listed,
    LocalModel,
    ModelInfo,
    Paged,
    ProfileInfo,
    ProfileOrder,
    QueuedInfo,
    Removed,
    RequestInfo,
    RunnerInfo,
    StatusInfo,
    SwapInfo,
    WorkerInfo,
    WorkerLog,
)
from workbench.api.routes import JsonRoute, failures, left, refuse_the_rest, while_connected
from workbench.errors import NotFoundError
from workbench.service import Workbench
from workbench.values import BlockState, KvSnapshot, RunnerSnapshot, WorkerSnapshot

CLIENT_LEFT = 499
LARGEST_ID = 2**63 - 1

ModelName = Annotated[str, Path(max_length=96, pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:-]*$")]
WorkerId = Annotated[str, Path(max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
ProfileName = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Force = Annotated[bool, Query(description="Do it though answers are cut off, or a pin is set aside.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Entries at most.")]
Before = Annotated[
    int | None, Query(ge=1, le=LARGEST_ID, description="`id` of the last entry of the page before this one.")
]


def health_router(workbench: Workbench) -> APIRouter:
    """`GET /health`, for whoever looks after the process."""
    router = APIRouter(route_class=JsonRoute, tags=["health"])

    @router.get("/health", summary="Whether requests are taken", responses=failures())
    async def health() -> Health:
        return Health(warm=workbench.pool_admin.status().pool.warm)

    return router


def admin_router(workbench: Workbench) -> APIRouter:
    """All routes below `/admin`. Who may call them is checked before."""
    router = APIRouter(prefix="/admin", route_class=JsonRoute)
    for add in (_add_orders, _add_models, _add_workers, _add_records, _add_profiles):
        add(router, workbench)
    refuse_the_rest(router)
    return router


def _info(workbench: Workbench, name: str) -> ModelInfo:
    return ModelInfo.model_validate(workbench.model(name))


def _worker(worker: WorkerSnapshot, now: float) -> WorkerInfo:
    ages = {"state_s": now - worker.state_since, "age_s": now - worker.started_at}
    return WorkerInfo.model_validate(asdict(worker) | ages)


def _runner(runner: RunnerSnapshot, now: float) -> RunnerInfo:
    idle_s = 0.0 if runner.in_flight else now - runner.idle_since
    return RunnerInfo.model_validate(asdict(runner) | {"idle_s": idle_s})


def _kv(model: str, snapshot: KvSnapshot) -> KvInfo:
    states = Counter(snapshot.states)
    return KvInfo(
        model=model,
        blocks=len(snapshot.states) - states[BlockState.NULL],
        in_use=states[BlockState.USED] + states[BlockState.SHARED],
        kept=states[BlockState.KEPT],
        free=states[BlockState.FREE],
        requests=snapshot.running,
        waiting=snapshot.waiting,
    )


def _add_models(router: APIRouter, workbench: Workbench) -> None:
    route: dict[str, Any] = {"tags": ["models"]}

    @router.get("/models", summary="All models", responses=failures(), **route)
    async def models() -> Listed[ModelInfo]:
        return Listed[ModelInfo](data=[ModelInfo.model_validate(model) for model in workbench.models])

    @router.post(
        "/models/local",
        summary="List a model in a folder of the server",
        status_code=201,
        responses=failures(409),
        **route,
    )
    async def add_local(model: LocalModel) -> ModelInfo:
        return ModelInfo.model_validate(await workbench.add_local_model(model.folder, model.name))

    @router.post(
        "/models/hub",
        summary="List a model of the hub, and begin to download it",
        status_code=201,
        responses=failures(409),
        **route,
    )
    async def add_hub(model: HubModel) -> ModelInfo:
        added = await workbench.add_hub_model(model.repo_id, model.revision, model.name)
        return ModelInfo.model_validate(added)

    @router.post(
        "/models/{name:path}/download",
        summary="Begin a download, or go on with it",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def download(name: ModelName) -> ModelInfo:
        await workbench.download(name)
        return _info(workbench, name)

    @router.post(
        "/models/{name:path}/cancel",
        summary="Stop a download; what has come stays",
        responses=failures(404, 409),
        **route,
    )
    async def cancel(name: ModelName) -> ModelInfo:
        workbench.model(name)
        await workbench.cancel_download(name)
        return _info(workbench, name)

    @router.get("/models/{name:path}", summary="One model", responses=failures(404), **route)
    async def model(name: ModelName) -> ModelInfo:
        return _info(workbench, name)

    @router.delete(
        "/models/{name:path}", summary="Take a model off the list", responses=failures(404, 409), **route
    )
    async def remove(
        name: ModelName,
        delete_files: Annotated[
            bool, Query(description="Delete downloaded files from the disk too.")
        ] = False,
    ) -> Removed:
        await workbench.remove_model(name, delete_files)
        return Removed(name=name)


def _add_orders(router: APIRouter, workbench: Workbench) -> None:
    """What is done with a model on its device."""
    route: dict[str, Any] = {"tags": ["models"]}

    async def bring_up(name: str, request: Request) -> Any:
        try:
            await while_connected(left(request), workbench.load(name))
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)  # read by nobody but the log
        return _info(workbench, name)

    loading = failures(404, 409, 500, 502, 507)

    @router.post(
        "/models/{name:path}/load",
        summary="Load or wake a model, and wait for it",
        responses=loading,
        **route,
    )
    async def load(name: ModelName, request: Request) -> ModelInfo:
        """Idle models give way if need be. If the client leaves, a load nobody else waits for is given up."""
        return await bring_up(name, request)

    @router.post(
        "/models/{name:path}/wake", summary="Wake a model, and wait for it", responses=loading, **route
    )
    async def wake(name: ModelName, request: Request) -> ModelInfo:
        """The same as `load`: a model that no worker holds any more is loaded."""
        return await bring_up(name, request)

    @router.post(
        "/models/{name:path}/unload",
        summary="Take a model off its device",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def unload(name: ModelName, force: Force = False) -> ModelInfo:
        workbench.model(name)
        await workbench.unload(name, force)
        return _info(workbench, name)

    @router.post(
        "/models/{name:path}/sleep",
        summary="Have an idle model give its memory up, and keep its worker",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def sleep(name: ModelName) -> ModelInfo:
        """Refused while requests are in flight. The next request wakes it, and so does `wake`."""
        workbench.model(name)
        await workbench.pool_admin.sleep(name)
        return _info(workbench, name)

    @router.post(
        "/models/{name:path}/pin",
        summary="Have a model stay on its device once it is loaded",
        responses=failures(404),
        **route,
    )
    async def pin(name: ModelName) -> ModelInfo:
        await workbench.pool_admin.pin(name)
        return _info(workbench, name)

    @router.post(
        "/models/{name:path}/unpin",
        summary="Let a model give way to others again",
        responses=failures(404),
        **route,
    )
    async def unpin(name: ModelName) -> ModelInfo:
        await workbench.pool_admin.pin(name, False)
        return _info(workbench, name)


def _add_workers(router: APIRouter, workbench: Workbench) -> None:
    route: dict[str, Any] = {"tags": ["workers"]}

    @router.get("/workers", summary="All workers", responses=failures(), **route)
    async def workers() -> Listed[WorkerInfo]:
        pool = workbench.pool()
        return Listed[WorkerInfo](data=[_worker(worker, pool.at) for worker in pool.workers])

    @router.post(
        "/workers/{id}/drain",
        summary="Have a worker finish what is in flight, give its model back, and end",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def drain(id: WorkerId, force: Force = False) -> WorkerInfo:
        before = worker_info(id)
        await workbench.pool_admin.drain(id, force)
        return worker_now(before)

    @router.post(
        "/workers/{id}/restart",
        summary="Replace a worker process",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def restart(id: WorkerId, force: Force = False) -> WorkerInfo:
        before = worker_info(id)
        await workbench.pool_admin.restart(id, force)
        return worker_now(before)

    @router.get(
        "/workers/{id}/log",
        summary="The end of a worker's log, also of one that ended lately",
        responses=failures(404),
        **route,
    )
    async def log(id: WorkerId, lines: Limit = 100) -> WorkerLog:
        return WorkerLog(worker=id, lines=await workbench.pool_admin.log_tail(id, lines))

    def worker_info(worker_id: str) -> WorkerInfo:
        pool = workbench.pool()
        for worker in pool.workers:
            if worker.id == worker_id:
                return _worker(worker, pool.at)
        raise NotFoundError(f"There is no worker {worker_id}; it may have been replaced already.")

    def worker_now(before: WorkerInfo) -> WorkerInfo:
        try:
            return worker_info(before.id)
        except NotFoundError:  # gone at once
            return before


def _add_records(router: APIRouter, workbench: Workbench) -> None:
    route: dict[str, Any] = {"tags": ["observability"]}

    @router.get("/status", summary="Versions, uptime, and the pool", responses=failures(), **route)
    async def status() -> StatusInfo:
        now = workbench.pool_admin.status()
        states = [worker.state for worker in now.pool.workers]
        return StatusInfo.model_validate(
            {
                "versions": now.versions,
                "uptime_s": now.uptime_s,
                "warm": now.pool.warm,
                "scheduling": workbench.settings.scheduling,
                "in_flight": sum(runner.in_flight for runner in now.pool.runners),
                "waiting": sum(waiter.count for waiter in now.pool.waiters),
                "workers": {state: states.count(state) for state in states},
                "runners": [_runner(runner, now.pool.at) for runner in now.pool.runners],
                "devices": now.pool.devices,
            },
            from_attributes=True,
        )

    @router.get("/queue", summary="Who waits for what, in order", responses=failures(), **route)
    async def queue() -> Listed[QueuedInfo]:
        """The first goes ahead first, as far as its model can be had."""
        waiting = workbench.pool_admin.queue()
        return Listed[QueuedInfo](data=[QueuedInfo.model_validate(request) for request in waiting])

    @router.get("/kv", summary="KV caches of the models that serve", responses=failures(), **route)
    async def kv() -> Listed[KvInfo]:
        """Models whose engine has not answered yet, in a long step perhaps, are left out."""
        views = await workbench.kv_caches()
        return Listed[KvInfo](data=[_kv(view.model, view.snapshot) for view in views if view.snapshot])

    @router.get("/swaps", summary="Loads and wakes, the latest first", responses=failures(), **route)
    async def swaps(limit: Limit = 100, before: Before = None) -> Paged[SwapInfo]:
        rows, has_more = await workbench.measurements.swaps_before(before, limit)
        return Paged[SwapInfo](data=[SwapInfo.model_validate(row) for row in rows], has_more=has_more)

    @router.get(
        "/requests", summary="Requests that have ended, the latest first", responses=failures(), **route
    )
    async def requests(limit: Limit = 100, before: Before = None) -> Paged[RequestInfo]:
        rows, has_more = await workbench.measurements.requests_before(before, limit)
        return Paged[RequestInfo](data=[RequestInfo.model_validate(row) for row in rows], has_more=has_more)


def _add_profiles(router: APIRouter, workbench: Workbench) -> None:
    route: dict[str, Any] = {"tags": ["profiles"]}

    @router.post(
        "/workers/{id}/profile",
        summary="Record what a worker's engine does in its next steps",
        status_code=202,
        responses=failures(404, 409),
        **route,
    )
    async def profile(id: WorkerId, order: Annotated[ProfileOrder | None, Body()] = None) -> ProfileInfo:
        """One at a time, while the worker serves. Recording costs speed."""
        wanted = order or ProfileOrder()
        started = await workbench.pool_admin.profiles.start(id, wanted.seconds, wanted.steps)
        return ProfileInfo.model_validate(started)

    @router.get("/profiles", summary="The last profiles of this run", responses=failures(), **route)
    async def profiles() -> Listed[ProfileInfo]:
        found = workbench.pool_admin.profiles.all()
        return Listed[ProfileInfo](data=[ProfileInfo.model_validate(profile) for profile in found])

    @router.get("/profiles/{name}", summary="One profile", responses=failures(404), **route)
    async def one_profile(name: ProfileName) -> ProfileInfo:
        return ProfileInfo.model_validate(workbench.pool_admin.profiles[name])

    @router.post(
        "/profiles/{name}/stop",
        summary="End a recording before its time, and wait for its trace",
        responses=failures(404),
        **route,
    )
    async def stop(name: ProfileName) -> ProfileInfo:
        return ProfileInfo.model_validate(await workbench.pool_admin.profiles.stop(name))

    @router.get(
        "/profiles/{name}/trace",
        summary="A profile's trace, for Perfetto or Chrome's about:tracing",
        response_class=FileResponse,
        responses={
            **failures(404, 409),
            200: {
                "description": "JSON under gzip.",
                "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
            },
        },
        **route,
    )
    async def trace(name: ProfileName) -> FileResponse:
        path = workbench.pool_admin.profiles.trace(name)
        return FileResponse(path, media_type="application/gzip", filename=path.name)
