"""What the admin API takes and returns. Times are Unix seconds, durations seconds, sizes bytes."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from workbench.values import Residency

T = TypeVar("T")

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)]
"""One line."""
NewName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_./:-]{0,95})?$")]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Answer(BaseModel):
    """What a client is sent, read from the service's own values."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class Listed(Answer, Generic[T]):
    """A list."""

    object: Literal["list"] = "list"
    data: list[T]


class Paged(Listed[T], Generic[T]):
    """The latest first. The page after this one begins `before` the `id` of its last entry."""

    has_more: bool


class Error(Answer):
    """What went wrong."""

    message: str
    """A sentence: what is wrong, why, and what to do about it."""
    type: str
    param: str | None = None
    """The field of the request that is at fault."""
    code: str | None = None


class ErrorAnswer(Answer):
    """An error in OpenAI's format."""

    error: Error


class LocalModel(Body):
    """A model in a folder of the server."""

    folder: Annotated[Text, Field(min_length=1)]
    """A path below one of the folders that models may come from."""
    name: NewName = ""
    """The folder's own name by default."""


class HubModel(Body):
    """A model of the Hugging Face hub."""

    repo_id: Annotated[Text, Field(min_length=1)]
    """organisation/name"""
    revision: Text = ""
    """Branch, tag or commit; the default branch if empty."""
    name: NewName = ""
    """The repository's own name by default."""


class ModelInfo(Answer):
    """A model of the catalog, with where it is now."""

    name: str
    source: str
    """Hub id, or folder."""
    residency: Residency
    architecture: str
    parameters: int
    weight_bytes: int
    context_length: int
    licence: str
    description: str
    download_done_bytes: int
    download_total_bytes: int
    error: str
    """Why it can't be served, or why its download failed."""
    in_flight: int
    """Requests that it is answering."""
    pinned: bool
    """Whether it stays on its device once it is loaded."""


class Removed(Answer):
    """A model that is no longer listed."""

    name: str
    removed: Literal[True] = True


class ProgressInfo(Answer):
    """What a request waits for."""

    stage: Literal["queued", "starting", "evicting", "loading", "waking", "serving"]
    detail: str
    done_bytes: int
    total_bytes: int
    """0 while the stage has no measure."""


class WorkerInfo(Answer):
    """A worker process."""

    id: str
    device: str
    state: str
    state_s: float
    """Time in this state."""
    model: str | None
    pid: int | None
    private_bytes: int
    """Host memory without mapped files."""
    device_bytes: int
    """Device memory, as its driver says; 0 on the CPU."""
    age_s: float
    swaps: int
    """Models it has loaded."""
    in_flight: int
    draining: bool
    """Whether it ends as soon as what is in flight on it is over."""


class WorkerLog(Answer):
    """The end of a worker's log. Lines are what processes wrote, and nothing to trust."""

    worker: str
    lines: list[str]


class QueuedInfo(Answer):
    """A request that waits for its model."""

    model: str
    owner: str
    """The key or user that asks."""
    priority: int
    expected_tokens: int
    """Of prompt and answer."""
    waiting_s: float
    progress: ProgressInfo


class DeviceInfo(Answer):
    """A device, and its budgets."""

    id: str
    name: str
    budget_bytes: int
    """For weights and KV caches."""
    used_bytes: int
    can_sleep: bool
    host_budget_bytes: int
    """Host memory for models asleep."""
    host_used_bytes: int


class RunnerInfo(Answer):
    """A model that a worker holds."""

    model: str
    state: Literal["loading", "serving", "sleeping", "asleep", "waking", "unloading"]
    device: str
    device_bytes: int
    """What it takes of its device's budget now."""
    in_flight: int
    idle_s: float
    pinned: bool
    workers: list[str]


class KvInfo(Answer):
    """The KV cache of a serving model, in blocks."""

    model: str
    blocks: int
    in_use: int
    """By requests."""
    kept: int
    """Free to be taken, but full of tokens that a request with the same prefix may reuse."""
    free: int
    requests: int
    """In the batch."""
    waiting: int
    """Requests that the engine has, but not in its batch yet."""


class StatusInfo(Answer):
    """Workbench at this moment."""

    versions: dict[str, str]
    uptime_s: float
    warm: bool
    """Whether at least one worker can take a model, or holds one."""
    scheduling: Literal["fcfs", "priority", "sjf", "fair"]
    in_flight: int
    waiting: int
    workers: dict[str, int]
    """How many are in each state."""
    runners: list[RunnerInfo]
    devices: list[DeviceInfo]


class Health(Answer):
    """Whether requests are taken."""

    status: Literal["ok"] = "ok"
    warm: bool
    """Whether at least one worker can take a model, or holds one."""


class SwapInfo(Answer):
    """A load or wake of a model, phase by phase."""

    id: int
    model: str
    worker: str
    device: str
    started_at: float
    """When it was first wanted."""
    from_residency: str
    """Where the weights came from: "disk" or "host"."""
    woken: bool
    """Whether its worker held the model asleep; else it was loaded."""
    evicted: list[str]
    """Models that made room."""
    outcome: Literal["ok", "failed", "cancelled"]
    error: str
    worker_start_s: float
    wait_s: float
    configure_s: float
    create_s: float
    weights_s: float
    kv_cache_s: float
    attach_s: float
    total_s: float
    device_bytes: int


class RequestInfo(Answer):
    """A request that has ended, phase by phase."""

    id: int
    request_id: str
    model: str
    received_at: float
    accept_s: float
    queue_s: float
    switch_s: float
    switch_reason: str
    ttft_s: float | None
    decode_s: float | None
    longest_gap_s: float | None
    duration_s: float
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    error: str


class ProfileOrder(Body):
    """What to record."""

    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    steps: Annotated[int, Field(ge=1, le=1000)] = 100
    """Engine steps after which the recording ends, if the time is not up before."""


class ProfileInfo(Answer):
    """A recording of a worker's engine steps."""

    name: str
    worker: str
    model: str
    began_at: float
    seconds: float
    steps: int
    state: Literal["recording", "ready", "failed"]
    bytes: int
    """Size of the trace, once it is ready."""
    error: str
