"""Element ids: what the stylesheets, the scripts and the tests hold on to; the chat's are in its HTML.

Rows and buttons inside live HTML have no ids but data attributes: `data-testid` names the kind
("worker", "runner", "waiter", "device", "machine", "timeline", "departure", "model", "conversation",
"key"),
`data-name` the thing, and `data-do` what a button does, a method of `actions.Actions`.
"""

from typing import Final

TOPBAR: Final = "topbar"
STATUS: Final = "pool-status"
PAGE_CHAT: Final = "page-chat"
PAGE_KV: Final = "page-kv"
PAGE_LATENCY: Final = "page-latency"
PAGE_POOL: Final = "page-pool"
PAGE_MODELS: Final = "page-models"
PAGE_KEYS: Final = "page-keys"

WARMING: Final = "warming"

KV: Final = "kv-cache"

LATENCY: Final = "latency"
LATENCY_CHOICE: Final = "latency-choice"
LATENCY_SWITCHES: Final = "latency-switches"
LATENCY_LIFE: Final = "latency-life"

DEVICES: Final = "pool-devices"
WORKERS: Final = "pool-workers"
WAITERS: Final = "pool-waiters"
LOADER: Final = "pool-loader"
TIMELINE: Final = "pool-timeline"
DEPARTURES: Final = "pool-departures"

CATALOG: Final = "model-catalog"
ADD_MODEL: Final = "add-model"

KEYS: Final = "key-list"
ADD_KEY: Final = "add-key"


def parameter(name: str) -> str:
    """Id of the field of a sampling parameter."""
    return f"parameter-{name.replace('_', '-')}"
