"""How keys are made."""

import re

import pytest

from workbench.access.keys import digest, new_key
from workbench.errors import BadRequestError


def test_a_key_is_random_and_only_its_digest_and_beginning_are_kept():
    secret, row = new_key("ci")
    other, _ = new_key("ci")
    assert secret != other
    assert re.fullmatch(r"wb-[A-Za-z0-9_-]{43}", secret), "32 random bytes"
    assert (row.digest, row.prefix) == (digest(secret), secret[:9])
    assert secret not in repr(row.model_dump())


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\nb", "\x1b[31mred", "zero\u200bwidth\u202e"])
def test_names_that_could_deceive_are_refused(name):
    with pytest.raises(BadRequestError):
        new_key(name)


@pytest.mark.parametrize("name", ["<b>&\"'", "schlüssel", "钥匙", "'; drop table api_keys; --"])
def test_other_names_are_just_names(name):
    assert new_key(f" {name} ")[1].name == name


@pytest.mark.parametrize("limit", [0, -1, 1 << 60])
def test_limits_are_above_zero(limit):
    with pytest.raises(BadRequestError, match="tokens_per_day"):
        new_key("ci", tokens_per_day=limit)
