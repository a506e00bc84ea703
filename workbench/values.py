"""The values that the service hands out, in one place, for those above it."""

from workbench.access.access import LOCAL, NOBODY, SIGN_IN_S, Caller, KeyView
from workbench.access.limits import Limits
from workbench.engine.kv_cache import BlockState, KvSnapshot
from workbench.engine.spec import SamplingOptions
from workbench.gateway import ApiRequest, Application, Wish, wrong_kind
from workbench.kv_caches import KvCacheView
from workbench.pool.giving_way import GivingWay
from workbench.pool.history import Departure, TimelineRow, TimelineSpan
from workbench.pool.snapshot import (
    DeviceSnapshot,
    PoolSnapshot,
    Progress,
    RunnerSnapshot,
    SwapRecord,
    WaiterSnapshot,
    WorkerSnapshot,
)
from workbench.pool_admin import PoolDetails
from workbench.requests import Arrival
from workbench.telemetry.machine import GpuLoad, MachineLoad
from workbench.telemetry.recorder import Now
from workbench.telemetry.windows import SPANS, TIMES, Picture
from workbench.views import (
    AnswerStats,
    AnswerView,
    ChatEvent,
    ConversationView,
    Finished,
    MessageView,
    ModelView,
    PresetView,
    RequestView,
    Residency,
    SwitchView,
    Token,
    VariantView,
)

__all__ = [
    "LOCAL",
    "NOBODY",
    "SIGN_IN_S",
    "SPANS",
    "TIMES",
    "AnswerStats",
    "AnswerView",
    "ApiRequest",
    "Application",
    "Arrival",
    "BlockState",
    "Caller",
    "ChatEvent",
    "ConversationView",
    "Departure",
    "DeviceSnapshot",
    "Finished",
    "GivingWay",
    "GpuLoad",
    "KeyView",
    "KvCacheView",
    "KvSnapshot",
    "Limits",
    "MachineLoad",
    "MessageView",
    "ModelView",
    "Now",
    "Picture",
    "PoolDetails",
    "PoolSnapshot",
    "PresetView",
    "Progress",
    "RequestView",
    "Residency",
    "RunnerSnapshot",
    "SamplingOptions",
    "SwapRecord",
    "SwitchView",
    "TimelineRow",
    "TimelineSpan",
    "Token",
    "VariantView",
    "WaiterSnapshot",
    "Wish",
    "WorkerSnapshot",
    "wrong_kind",
]
