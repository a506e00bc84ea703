"""Pins that last, and logs of known workers only, over a real catalog and a pool that pretends."""

import pytest

from tests.pool.fakes import running, use
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Model
from workbench.errors import NotFoundError
from workbench.library import ModelLibrary
from workbench.pool.snapshot import PoolSnapshot
from workbench.pool.states import WorkerState
from workbench.pool_admin import PoolAdmin
from workbench.settings import Settings


async def no_architectures():
    return frozenset()


@pytest.fixture
async def library(tmp_path):
    settings = Settings(data_dir=tmp_path, _env_file=None)
    catalog = Catalog.open(settings.database_path)
    if not catalog.models():
        catalog.add_model(Model(name="a", source_kind="local", folder=str(tmp_path)))
    library = ModelLibrary(settings, catalog, 100, no_architectures, PoolSnapshot, lambda: None)
    await library.start()
    yield library
    await library.close()
    catalog.close()


async def test_a_pin_is_what_the_pool_asks_for_and_is_in_the_catalog(library, tmp_path):
    async with running(pinned=library.is_pinned) as pool:
        admin = PoolAdmin(library._settings, library, pool.controller)
        await use(pool, "a")
        await admin.pin("a")
        assert pool.controller.snapshot().runners[0].pinned
        assert library.view("a").pinned
        after_a_restart = ModelLibrary(
            library._settings, library._catalog, 100, no_architectures, PoolSnapshot, lambda: None
        )
        await after_a_restart.start()
        assert after_a_restart.is_pinned("a")
        await after_a_restart.close()
        await admin.pin("a", False)
        assert not library._catalog.model("a").pinned
        with pytest.raises(NotFoundError):
            await admin.pin("nobody")


async def test_details_number_the_models_and_look_at_live_workers(library):
    async with running() as pool:
        admin = PoolAdmin(library._settings, library, pool.controller)
        await use(pool, "b")
        await use(pool, "a")
        await pool.until(lambda: pool.states()[WorkerState.SERVING])
        details = await admin.details()
        assert details.numbers == {"b": 0, "a": 1}
        assert details.machine.total_bytes > 0
        assert set(details.giving_way) == {"device"}


async def test_details_follow_the_pool_at_once_and_the_machine_once_in_a_while(library, monkeypatch):
    async with running() as pool:
        admin = PoolAdmin(library._settings, library, pool.controller)
        await use(pool, "a")
        await pool.until(lambda: pool.states()[WorkerState.SERVING])
        await pool.until(lambda: pool.controller.snapshot().runners[0].in_flight == 0)
        first = await admin.details()
        assert await admin.details() is first, "nothing has happened"
        await use(pool, "b")
        await pool.until(lambda: pool.controller.snapshot().runners[1].in_flight == 0)
        second = await admin.details()
        assert second.numbers == {"a": 0, "b": 1}
        assert second.machine is first.machine
        monkeypatch.setattr("workbench.pool_admin.SAMPLE_S", 0.0)
        assert (await admin.details()).machine is not first.machine


async def test_only_logs_of_known_workers_are_followed(library, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-w1.log").write_text("hello\n")
    (tmp_path / "logs" / "worker-w99.log").write_text("an earlier run's\n")
    async with running() as pool:
        admin = PoolAdmin(library._settings, library, pool.controller)
        await pool.until(lambda: pool.states()[WorkerState.WARM])
        for name in ("w99", "../worker-w1", "", "w1.log"):
            with pytest.raises(NotFoundError):
                admin.follow_log(name)
        lines = admin.follow_log("w1")
        assert await anext(lines) == ["hello"]
        pool.workers[0].die()
        await pool.until(lambda: pool.controller.departures())
        assert [batch async for batch in lines][-1] == []
        assert await anext(admin.follow_log("w1")) == ["hello"], "it can be read after the worker's end"
