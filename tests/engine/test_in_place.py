"""Weights used where they lie in a model's file, or else copied as vLLM would have it."""

import shutil
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.engine.helpers import GREEDY, ask, until, worker_of
from workbench.engine import loading, page_cache
from workbench.engine.in_place import LEAST_BYTES, CopiesPutOff
from workbench.engine.loading import LoadCancelledError, LoadWatch
from workbench.service import Workbench
from workbench.values import Token

ROWS, COLUMNS = 32, 1024  # of bfloat16: just large enough
GATE, UP, LAST, SMALL = "a gate", "an up", "last", "small"  # in the order of the file


@pytest.fixture
def weights(tmp_path):
    """The tensors of a file, by name: as large as it takes, but one, and side by side in this order."""
    generator = torch.Generator().manual_seed(3)
    made = {
        name: torch.randn(ROWS, COLUMNS, generator=generator).to(torch.bfloat16) for name in (GATE, UP, LAST)
    }
    made[SMALL] = torch.randn(8, COLUMNS, generator=generator).to(torch.bfloat16)
    assert made[GATE].nbytes == LEAST_BYTES
    save_file(made, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in made}


def parameter(rows=ROWS, dtype=torch.bfloat16):
    return torch.nn.Parameter(torch.full((rows, COLUMNS), 7, dtype=dtype), requires_grad=False)


def load(parameters, weights, copy):
    """What `copy` leaves in the parameters; and which of them are used where they lie."""
    with CopiesPutOff() as copies:
        for weight in weights.values():
            copies.add(weight)
        copy()
    return copies.settle(parameters)


def test_what_lies_side_by_side_is_one_piece_of_the_file(weights):
    joined = parameter(2 * ROWS)

    def copy():
        for at, name in ((ROWS, UP), (0, GATE)):  # in any order
            joined.data.narrow(0, at, ROWS).copy_(weights[name])

    assert load([joined], weights, copy) == [joined]
    assert joined.data_ptr() == weights[GATE].data_ptr()
    assert torch.equal(joined, torch.cat([weights[GATE], weights[UP]]))
    expected = torch.cat([weights[GATE], weights[UP]])
    weights.clear()  # the parameter alone keeps the file mapped
    assert torch.equal(joined, expected)


def test_what_lies_at_an_odd_address_is_copied(weights):
    """Kernels expect whole addresses; a file may have been written without regard to that."""
    file = bytearray(1 + weights[GATE].nbytes)
    odd = torch.frombuffer(file, dtype=torch.bfloat16, offset=1).view(ROWS, COLUMNS)
    assert odd.data_ptr() % 2
    odd.copy_(weights[GATE])
    whole = parameter()
    assert load([whole], {"odd": odd}, lambda: whole.data.copy_(odd)) == []
    assert torch.equal(whole, weights[GATE])


def test_a_weight_of_its_own_is_used_where_it_lies_in_whatever_shape(weights):
    whole = torch.nn.Parameter(torch.empty(ROWS, COLUMNS, dtype=torch.bfloat16), requires_grad=False)
    assert load([whole], weights, lambda: whole.data.view(-1).copy_(weights[UP].view(-1))) == [whole]
    assert whole.data_ptr() == weights[UP].data_ptr()
    assert torch.equal(whole, weights[UP])


@pytest.mark.parametrize(
    "names",
    [(UP, GATE), (GATE, LAST), (GATE, GATE), (GATE,)],
    ids=["in another order", "with a gap", "twice", "a part"],
)
def test_what_lies_otherwise_is_copied(weights, names):
    joined = parameter(2 * ROWS)

    def copy():
        for number, name in enumerate(names):
            joined.data.narrow(0, number * ROWS, ROWS).copy_(weights[name])

    assert load([joined], weights, copy) == []
    rest = [torch.full((ROWS, COLUMNS), 7, dtype=torch.bfloat16)] * (2 - len(names))
    assert torch.equal(joined, torch.cat([*(weights[name] for name in names), *rest]))


def test_weights_of_another_type_or_few_bytes_are_copied_at_once(weights):
    wide, small = parameter(dtype=torch.float32), parameter(8)

    def copy():
        wide.data.copy_(weights[GATE])
        small.data.copy_(weights[SMALL])
        assert wide[0, 0] == weights[GATE][0, 0].float()
        assert torch.equal(small, weights[SMALL])

    assert load([wide, small], weights, copy) == []
    assert torch.equal(wide, weights[GATE].float())


def test_whoever_looks_sees_what_was_copied(weights):
    source, target = parameter(), parameter()

    def copy():
        source.data.copy_(weights[GATE])
        target.data.copy_(source.data)  # reads it
        source.data[0].fill_(3)

    assert load([source, target], weights, copy) == []
    assert torch.equal(target, weights[GATE])
    assert (source[0] == 3).all()
    assert torch.equal(source[1:], weights[GATE][1:])


def test_a_weight_that_is_written_into_was_copied_before(weights):
    target = parameter()
    before = weights[GATE].clone()

    def copy():
        target.data.copy_(weights[GATE])
        weights[GATE].zero_()

    assert load([target], weights, copy) == []
    assert torch.equal(target, before)


def test_of_two_copies_into_one_place_the_later_counts(weights):
    target = parameter()

    def copy():
        target.data.copy_(weights[GATE])
        target.data.copy_(weights[UP])

    load([target], weights, copy)
    assert torch.equal(target, weights[UP])


def test_memory_that_others_see_too_is_filled(weights):
    target = parameter()
    other = target.data[:4]
    assert load([target], weights, lambda: target.data.copy_(weights[GATE])) == []
    assert torch.equal(other, weights[GATE][:4])


def test_what_is_no_parameter_is_filled(weights):
    buffer = torch.zeros(ROWS, COLUMNS, dtype=torch.bfloat16)
    assert load([], weights, lambda: buffer.copy_(weights[GATE])) == []
    assert torch.equal(buffer, weights[GATE])


def test_padding_of_no_rows_touches_nothing(weights):
    """As vLLM's embeddings have it."""
    padded = parameter()

    def copy():
        padded[:ROWS].data.copy_(weights[GATE])
        padded[ROWS:].data.fill_(0)

    assert load([padded], weights, copy) == [padded]


def test_one_weight_in_two_places_is_there_twice(weights):
    first, second = parameter(), parameter()

    def copy():
        first.data.copy_(weights[GATE])
        second.data.copy_(weights[GATE])

    assert load([first, second], weights, copy) == []
    assert torch.equal(first, weights[GATE])
    assert torch.equal(second, weights[GATE])


def test_files_that_are_not_in_memory_are_read_first_and_a_cancel_ends_it(tmp_path, monkeypatch):
    path, reports, cancelled = tmp_path / "model.safetensors", [], threading.Event()
    path.write_bytes(bytes(3 << 20))
    watch = LoadWatch(reports.append, cancelled, None)
    loading._read_ahead([path], watch)
    assert reports == []  # it has just been written, so it is there
    monkeypatch.setattr(loading, "resident_bytes", lambda path: 0)
    monkeypatch.setattr(page_cache, "_resident_bytes", lambda fd: 0)
    monkeypatch.setattr(loading, "MUCH_BYTES", 3 << 20)
    loading._read_ahead([path], watch)
    assert reports == []  # so much is read in a moment
    monkeypatch.setattr(loading, "MUCH_BYTES", 2 << 20)
    loading._read_ahead([path], watch)
    assert reports == [0, 1 << 20, 2 << 20, 3 << 20]
    cancelled.set()
    with pytest.raises(LoadCancelledError):
        loading._read_ahead([path], watch)


def test_a_load_that_fails_leaves_copies_as_they_were(weights):
    target = parameter()
    with pytest.raises(KeyError):
        load([], weights, lambda: weights["missing"])
    target.data.copy_(weights[GATE])
    assert torch.equal(target, weights[GATE])


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="session")
async def test_a_first_answer_is_from_the_models_own_file_and_later_ones_from_the_prepared(workbench):
    shutil.rmtree(workbench.settings.prepared_dir, ignore_errors=True)
    if workbench.model("storyteller").residency != "disk":
        await workbench.unload("storyteller")
    story, own_file = "Tell me a story about a fox", Path(workbench.catalog.model("storyteller").folder)
    async with aclosing(workbench.chat("storyteller", story, options=GREEDY)) as answer:
        while not isinstance(await anext(answer), Token):
            pass
        # Already the prepared, should the machine have paused for long.
        assert mapped(workbench, own_file) or mapped(workbench, workbench.settings.prepared_dir)
    await until(lambda: mapped(workbench, workbench.settings.prepared_dir))
    await until(lambda: not mapped(workbench, own_file))
    prepared = await ask(workbench, "storyteller", story)
    await workbench.unload("storyteller")
    again = await ask(workbench, "storyteller", story)
    assert prepared.stats.switch_s == 0 < again.stats.switch_s
    assert prepared.text == again.text


def mapped(workbench: Workbench, folder: Path) -> bool:
    """Whether the worker that runs the storyteller has a file mapped that is in a folder now."""
    maps = Path(f"/proc/{worker_of(workbench, 'storyteller').pid}/maps").read_text().splitlines()
    return any(f"{folder.resolve()}/" in line and not line.endswith(" (deleted)") for line in maps)
