"""Settings: read once, at the edge, into one frozen object that is passed on.

Sources, strongest first: arguments (the command line passes its flags so), environment variables
`WORKBENCH_…`, a `.env` file in the working directory, the defaults below.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, PositiveInt, StringConstraints, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PACKAGE = Path(__file__).resolve().parent
CHECKOUT_DATA = PACKAGE.parent / "data"
IN_CHECKOUT = (CHECKOUT_DATA / "models.toml").exists()
SHIPPED_DATA = CHECKOUT_DATA if IN_CHECKOUT else PACKAGE / "_data"
"""Seed file and demo models: beside the package in a checkout, inside it once installed."""
OWN_DATA = CHECKOUT_DATA if IN_CHECKOUT else Path.home() / ".local" / "share" / "workbench"
Site = Annotated[str, StringConstraints(pattern=r"^[^\s;,'\"]+$")]
"""As in a Content-Security-Policy: https://example.com, https://*.example.com."""
LISTS = {
    "allowed_hosts": ",",
    "allowed_origins": ",",
    "cuda_graph_sizes": ",",
    "frame_ancestors": ",",
    "model_roots": ":",
}
"""Settings of several values, and what splits them."""


class Settings(BaseSettings):
    """Everything a user can set. Sizes take units ("4GiB"); durations are seconds.

    Keys are made, listed and revoked by `workbench keys`; `workbench keys --help` tells how.
    """

    model_config = SettingsConfigDict(env_prefix="WORKBENCH_", env_file=".env", frozen=True, extra="ignore")

    # Where the page is served.
    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 for every interface.")
    port: int = Field(7860, ge=0, le=65535, description="Port of the page.")
    root_path: str = Field("", description="Path prefix behind a reverse proxy.")

    # Who may do what, and how much at a time.
    require_keys: Literal["auto", "always", "never"] = Field(
        "auto", description="Ask for a key; auto does unless only this machine can reach Workbench."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names, split by ',', that Workbench is reached by; besides loopback's own."
    )
    frame_ancestors: Annotated[tuple[Site, ...], NoDecode] = Field(
        (), description="Sites, split by ',', that may show the page in a frame of theirs."
    )
    max_body_bytes: ByteSize = Field(ByteSize(8 << 20), ge=1024, description="Longest body of a request.")
    max_concurrent_requests: int = Field(
        512, ge=1, description="Answers that are asked for or written at a time, of all keys together."
    )

    # Files.
    data_dir: Path = Field(OWN_DATA, description="Folder of the database and of downloaded models.")
    database: Path | None = Field(None, description="SQLite file; data_dir/workbench.db by default.")
    seed_file: Path = Field(SHIPPED_DATA / "models.toml", description="Models listed in a new catalog.")
    model_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders, split by ':', that local models may come from, besides the data folders."
    )
    prepared_bytes: ByteSize = Field(
        ByteSize(32 << 30), description="Disk that weights prepared for fast loads may take; 0 for none."
    )

    # Hugging Face hub.
    hub_endpoint: str | None = Field(None, description="Hub to download from; the public one by default.")

    # Devices and memory.
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes GPUs where there are any.")
    memory_budget: ByteSize | None = Field(
        None, description="Bytes of weights and KV cache a device may hold; from its memory by default."
    )
    kv_cache_bytes: ByteSize | None = Field(
        None, description="KV cache of a model whose catalog entry sets none; from the budget by default."
    )
    max_workers: int | None = Field(
        None, ge=1, le=64, description="Warm processes per device; from its memory by default."
    )
    spare_workers: int = Field(1, ge=0, le=8, description="Idle warm processes kept per device.")
    worker_max_swaps: int = Field(1000, ge=1, description="Loads after which a worker is replaced.")
    leak_tolerance: ByteSize = Field(
        ByteSize(512 << 20), description="Memory an unload may leave behind before its worker is replaced."
    )
    sleep: bool = Field(
        True, description="Idle models that give way sleep in their worker, if they can, instead of leaving."
    )
    host_memory_budget: ByteSize | None = Field(
        None, description="Pinned host memory for models asleep; 40 % of the machine's by default."
    )
    cuda_graph_sizes: Annotated[tuple[PositiveInt, ...], NoDecode] = Field(
        (1, 2, 4, 8, 16, 32),
        description="Batch sizes that a GPU runs as CUDA graphs, split by ','; none for eager mode.",
    )

    # Time limits, in seconds.
    worker_start_timeout: float = Field(180, gt=0, description="For a worker to become warm.")
    load_timeout: float = Field(900, gt=0, description="For a model to load.")
    unload_timeout: float = Field(30, gt=0, description="For a worker to give a model back.")
    sleep_timeout: float = Field(120, gt=0, description="For a model to fall asleep.")
    ping_interval: float = Field(2, gt=0, description="Between two signs of life asked of a worker.")
    ping_timeout: float = Field(20, gt=0, description="Without a sign of life, a worker counts as hung.")
    step_timeout: float = Field(300, gt=0, description="Longest single engine step before it counts as hung.")
    fairness_wait: float = Field(
        10, gt=0, description="After this wait a request may close a busy model to newcomers."
    )
    starvation_wait: float = Field(
        60, gt=0, description="A request goes before all that come so much later, whatever the scheduling."
    )
    max_queued: int = Field(256, ge=1, description="Requests that may wait for a model at a time.")

    # Who goes first.
    scheduling: Literal["fcfs", "priority", "sjf", "fair"] = Field(
        "fcfs",
        description="Who came first, who is most urgent, who asks for least, or who has had least of late.",
    )

    # The API.
    api_wait: float = Field(
        120, gt=0, description="For a model that a request names, unless it streams; then 503."
    )
    max_messages: int = Field(2048, ge=1, description="Messages, or input items, a request may have.")
    max_choices: int = Field(32, ge=1, description="Answers that one request may ask for at once.")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of other web pages, split by ',', that may call the API from a browser."
    )

    # Logs.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = Field(False, description="One JSON object a line instead of readable text.")

    # Traces.
    otlp_endpoint: str | None = Field(
        default_factory=lambda: os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
        description="Collector that traces go to, http://localhost:4318 for one; no traces without.",
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name, separator in LISTS.items():
            text = values.get(name)
            if isinstance(text, str):
                values[name] = tuple(part.strip() for part in text.split(separator) if part.strip())
        return values

    @property
    def bound_to_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def keys_required(self) -> bool:
        """Whether nothing is done without a key. Names to be reached by mean a proxy, thus other machines."""
        if self.require_keys == "auto":
            return bool(self.allowed_hosts) or not self.bound_to_loopback
        return self.require_keys == "always"

    @property
    def database_path(self) -> Path:
        return self.database or self.data_dir / "workbench.db"

    @property
    def models_dir(self) -> Path:
        """Folder that hub downloads go to."""
        return self.data_dir / "models"

    @property
    def prepared_dir(self) -> Path:
        """Folder of prepared weights; safe to delete at any time."""
        return self.data_dir / "prepared"

    @property
    def profiles_dir(self) -> Path:
        """Folder of profiles that were recorded in this run."""
        return self.data_dir / "profiles"

    def worker_log(self, worker_id: str) -> Path:
        """File that a worker's output goes to."""
        return self.data_dir / "logs" / f"worker-{worker_id}.log"

    @property
    def allowed_roots(self) -> tuple[Path, ...]:
        """Folders that local models may come from, resolved."""
        return tuple(root.expanduser().resolve() for root in (*self.model_roots, SHIPPED_DATA, self.data_dir))


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, which no other machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
