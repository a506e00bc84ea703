"""The values that the service hands out, in one place, for those above it."""

from workbench.engine.spec import SamplingOptions
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
)

__all__ = [
    "SPANS",
    "TIMES",
    "AnswerStats",
    "AnswerView",
    "ChatEvent",
    "ConversationView",
    "Departure",
    "DeviceSnapshot",
    "Finished",
    "GivingWay",
    "GpuLoad",
    "KvCacheView",
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
    "WaiterSnapshot",
    "WorkerSnapshot",
]
