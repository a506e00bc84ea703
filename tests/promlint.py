"""What `promtool check metrics` finds fault with, by the rules of its linter (promlint in client_golang)."""

import re

BASE_UNITS = {
    "amperes",
    "bytes",
    "celsius",
    "grams",
    "joules",
    "kelvin",
    "meters",
    "metres",
    "seconds",
    "volts",
}
OTHER_UNITS = {
    "minutes", "hours", "days", "weeks", "kelvins", "fahrenheit", "rankine", "inches", "yards", "miles",
    "bits", "calories", "pounds", "ounces",
}  # fmt: skip
PREFIXES = (
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi",
    "giga", "gibi", "tera", "tebi", "peta", "pebi",
)  # fmt: skip
ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
TYPES = {"counter", "gauge", "summary", "histogram", "gauge_histogram"}
RESERVED = {"_bucket": ("histogram",), "_count": ("histogram", "summary"), "_sum": ("histogram", "summary")}


def families(text: str) -> dict[str, tuple[str, str]]:
    """Type and help of each family in the text format; fails on one that is there twice."""
    found: dict[str, tuple[str, str]] = {}
    helps = re.findall(r"^# HELP (\S+) ?(.*)$", text, re.MULTILINE)
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert [name for name, _ in helps] == [name for name, _ in types]
    for (name, help_text), (_, kind) in zip(helps, types, strict=True):
        assert name not in found, f"{name} is there twice"
        found[name] = (kind, help_text)
    return found


def problems(text: str) -> list[str]:
    """Each with the name of its metric."""
    found = []
    for name, (kind, help_text) in families(text).items():
        found += [f"{name}: {problem}" for problem in _of_family(name, kind, help_text)]
        if kind != "histogram" and re.search(rf"^{re.escape(name)}\{{[^}}]*\ble=", text, re.MULTILINE):
            found.append(f"{name}: label le on a {kind}")
    found += [f"{name}: label in camelCase" for name in re.findall(r"[{,](\w*[a-z][A-Z]\w*)=", text)]
    return found


def _of_family(name: str, kind: str, help_text: str) -> list[str]:
    parts = name.split("_")
    return [
        problem
        for problem, wrong in {
            "no help text": not help_text,
            "a counter without _total": kind == "counter" and not name.endswith("_total"),
            "_total on what is no counter": kind != "counter" and name.endswith("_total"),
            "a unit that is not a base unit": any(_is_other_unit(part) for part in parts),
            "an abbreviated unit": bool(ABBREVIATIONS & set(parts[1:])),
            "its type in its name": any(f"_{type_name}_" in f"_{name}_" for type_name in TYPES),
            "a colon": ":" in name,
            "camelCase": bool(re.search("[a-z][A-Z]", name)),
            "a reserved suffix": any(
                name.endswith(suffix) and kind not in kinds for suffix, kinds in RESERVED.items()
            ),
        }.items()
        if wrong
    ]


def _is_other_unit(part: str) -> bool:
    if part in OTHER_UNITS:
        return True
    return any(part.removeprefix(prefix) in BASE_UNITS | OTHER_UNITS for prefix in PREFIXES if part != prefix
               and part.startswith(prefix))  # fmt: skip
