"""Who is let in, with what, and for how long."""

import asyncio
import sqlite3

import pytest

from workbench.access import access as module
from workbench.access.access import ADMIN, CHAT, LOCAL
from workbench.access.limits import Limits
from workbench.catalog.keys import SIGN_INS_PER_KEY, Keys
from workbench.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


async def test_a_key_is_known_by_its_header_and_has_its_scope(access):
    chat, admin = await access.create("ci"), await access.create("boss", "admin")
    caller = access.caller(bearer(chat), "")
    assert (caller.name, caller.scopes) == ("ci", CHAT)
    assert access.caller(f"bearer  {admin}", "").scopes == ADMIN
    with pytest.raises(ForbiddenError, match="“ci” may not"):
        caller.demand("admin")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wb-wrong", "Basic d2I6d2I=", "wb-x", "\udcff"]
)
async def test_without_a_valid_key_nobody_gets_in(access, header):
    await access.create("ci")
    with pytest.raises(UnauthorizedError):
        access.caller(header, "")


async def test_neither_digest_nor_prefix_nor_cookie_is_a_key(access):
    secret = await access.create("ci")
    token = await access.sign_in(secret)
    for wrong in (secret[:9], secret + "x", secret[:-1], module.digest(secret), token):
        with pytest.raises(UnauthorizedError):
            access.caller(bearer(wrong), "")
    with pytest.raises(UnauthorizedError):
        access.caller("", secret)


async def test_where_no_key_is_asked_for_all_are_local_and_keys_still_count(make_access):
    access = make_access(require_keys="never")
    secret = await access.create("ci", limits=Limits(concurrency=1))
    assert access.caller("", "") is LOCAL
    assert access.caller("Bearer whatever a client must send", "") is LOCAL
    assert access.caller(bearer(secret), "").name == "ci"


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "127.0.0.2"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.168.1.5"}, True),
        ({"host": "my-machine"}, True),
        ({"host": "127.0.0.1", "allowed_hosts": ("chat.example.com",)}, True),
        ({"host": "0.0.0.0", "require_keys": "never"}, False),
        ({"host": "127.0.0.1", "require_keys": "always"}, True),
    ],
)
def test_keys_are_asked_for_unless_only_this_machine_can_come(make_access, settings, required):
    assert make_access(**{"require_keys": "auto"} | settings).required is required


async def test_a_name_is_taken_once_and_free_again(access):
    await access.create("ci")
    with pytest.raises(ConflictError):
        await access.create("ci")
    await access.revoke("ci")
    with pytest.raises(NotFoundError):
        await access.revoke("ci")
    await access.create("ci")


async def test_a_revoked_key_ends_at_once_also_for_browsers_and_what_goes_on(access):
    secret = await access.create("ci")
    token = await access.sign_in(secret)
    caller = access.caller("", token)
    assert access.holds(caller)
    await access.revoke("ci")
    for header, cookie in ((bearer(secret), ""), ("", token)):
        with pytest.raises(UnauthorizedError):
            access.caller(header, cookie)
    assert not access.holds(caller)
    with pytest.raises(UnauthorizedError), access.admit(caller):
        pass
    again = await access.create("ci")
    assert not access.holds(caller), "a new key of that name is another one"
    assert access.caller(bearer(again), "").key_id != caller.key_id


async def test_a_request_that_runs_when_its_key_is_revoked_ends_in_order(access):
    caller = access.caller(bearer(await access.create("ci")), "")
    with access.admit(caller) as admission:
        await access.revoke("ci")
        admission.charge(10)


async def test_browsers_are_signed_in_until_they_sign_out_or_it_is_long_ago(access, clock):
    secret = await access.create("ci")
    first, second = await access.sign_in(f" {secret}\n"), await access.sign_in(secret)
    await access.sign_out(first)
    with pytest.raises(UnauthorizedError):
        access.caller("", first)
    assert access.caller("", second).name == "ci"
    clock.now += module.SIGN_IN_S
    with pytest.raises(UnauthorizedError, match="signed out"):
        access.caller("", second)
    with pytest.raises(UnauthorizedError, match="not known"):
        await access.sign_in("wb-wrong")


async def test_sign_ins_of_a_key_are_bounded(access, clock, catalog):
    secret = await access.create("ci")
    first = await access.sign_in(secret)
    for _ in range(SIGN_INS_PER_KEY):
        clock.now += 1
        last = await access.sign_in(secret)
    assert access.caller("", last).name == "ci"
    with pytest.raises(UnauthorizedError):
        access.caller("", first)
    assert len(catalog.keys.read(clock.now)[1]) == SIGN_INS_PER_KEY


async def test_the_database_holds_neither_keys_nor_tokens(access, database):
    secret = await access.create("ci")
    token = await access.sign_in(secret)
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    assert "ci" in dump
    assert secret not in dump
    assert secret[9:] not in dump
    assert token not in dump


async def test_a_request_does_not_touch_the_database(access, catalog, monkeypatch):
    secret = await access.create("ci")
    monkeypatch.setattr(catalog.keys, "_database", None)
    for _ in range(100):
        with access.admit(access.caller(bearer(secret), "")) as admission:
            admission.charge(1)


async def test_what_another_process_changes_is_noticed(access, database, monkeypatch):
    monkeypatch.setattr(module, "REFRESH_S", 0.01)
    secret = await access.create("ci")
    await access.start()
    with Keys.beside(database) as keys:  # as `workbench keys` does, while the database is held
        keys.remove("ci")
        added, row = module.new_key("from outside")
        keys.add(row)
    async with asyncio.timeout(5):
        while [key.name for key in access.listed()] != ["from outside"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert access.caller(bearer(added), "").name == "from outside"
    with pytest.raises(UnauthorizedError):
        access.caller(bearer(secret), "")
    await access.close()


async def test_what_was_read_before_a_change_does_not_undo_it(access, catalog, monkeypatch):
    """A key is revoked while the keys are being read anew."""
    await access.create("ci")
    read, may_go = catalog.keys.read, asyncio.Event()
    loop = asyncio.get_running_loop()
    reading = asyncio.Event()

    def slow(now):
        answer = read(now)
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(may_go.wait(), loop).result()
        return answer

    monkeypatch.setattr(catalog.keys, "read", slow)
    refresh = asyncio.create_task(access._refresh())
    await reading.wait()
    monkeypatch.setattr(catalog.keys, "read", read)
    await access.revoke("ci")
    may_go.set()
    await refresh
    assert access.listed() == []


async def test_use_is_stored_rarely_and_outlives_a_restart(make_access, clock, catalog, monkeypatch):
    notes = []
    store = catalog.keys.note
    monkeypatch.setattr(catalog.keys, "note", lambda uses: (notes.append(list(uses)), store(notes[-1])))
    monkeypatch.setattr(module, "REFRESH_S", 0.001)
    access = make_access()
    await access.start()
    caller = access.caller(bearer(await access.create("ci", limits=Limits(tokens_per_day=10))), "")
    await access.create("unused")
    with access.admit(caller) as admission:
        admission.charge(10)
    await asyncio.sleep(0.05)
    assert notes == [], "not before a minute has passed"
    clock.now += module.NOTE_S
    async with asyncio.timeout(5):
        while not notes:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    assert [use.day_tokens for use in notes[0]] == [10], "and only of the key that was used"
    await access.close()

    stored = len(notes)
    reborn = make_access()
    await reborn.start()
    used, unused = reborn.listed()
    assert (used.tokens_today, used.last_used_at, unused.last_used_at) == (
        10,
        clock.now - module.NOTE_S,
        None,
    )
    with pytest.raises(TooManyRequestsError), reborn.admit(caller):
        pass
    await reborn.close()
    assert len(notes) == stored, "what is known already is not stored again"


async def test_requests_under_way_are_limited_in_all(make_access, clock):
    access = make_access(require_keys="never", max_concurrent_requests=2)
    with access.admit(LOCAL):
        with access.admit(LOCAL):
            with pytest.raises(TooManyRequestsError, match="2 requests at a time"), access.admit(LOCAL):
                pass
            clock.now += 8
        with access.admit(LOCAL), pytest.raises(TooManyRequestsError) as refused, access.admit(LOCAL):
            pass
        assert refused.value.retry_after_s == pytest.approx(4.0), "one of two, which take 8 s"


async def test_a_request_that_fails_is_counted_off(access):
    caller = access.caller(bearer(await access.create("ci", limits=Limits(concurrency=1))), "")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), access.admit(caller):
            raise ZeroDivisionError


async def test_the_first_administrator_gets_a_key_once(access, make_access):
    await access.create("admin", "chat")
    secret = await access.first_key()
    assert access.caller(bearer(secret), "").scopes == ADMIN
    assert [key.name for key in access.listed()] == ["admin", "admin 2"]
    assert await access.first_key() is None
    assert await make_access(require_keys="never").first_key() is None


async def test_guesses_are_logged_without_the_key_and_not_each(access, clock, monkeypatch):
    lines = []
    monkeypatch.setattr(module.log, "warning", lambda event, **about: lines.append((event, about)))
    for _ in range(1000):
        with pytest.raises(UnauthorizedError):
            await access.sign_in("wb-guess", "10.0.0.7")
    clock.now += module.REFUSALS_LOGGED_S
    access.note_refusal("10.0.0.7")
    assert lines == [
        ("a key was refused", {"client": "10.0.0.7", "refused": 1}),
        ("a key was refused", {"client": "10.0.0.7", "refused": 1000}),
    ]
