"""The tables. Times are Unix seconds (UTC), durations are seconds, sizes are bytes.

`id` is typed `int` because every row that the catalog hands out has one; it is None until a new row is
stored. The schema itself is made by `migrations/`; a test keeps the two alike.
"""

import time
from typing import Any, Literal

from sqlalchemy import JSON, Index, String
from sqlmodel import Field, SQLModel

SourceKind = Literal["local", "hub"]
DownloadState = Literal["none", "queued", "downloading", "done", "cancelled", "failed"]
Role = Literal["system", "user", "assistant"]
SwapOutcome = Literal["ok", "failed", "cancelled"]
EngineArg = str | int | float | bool
KeyScope = Literal["chat", "admin"]


class Model(SQLModel, table=True):
    """A model people can pick, where it comes from, and how to serve it."""

    __tablename__ = "models"

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    source_kind: SourceKind = Field(sa_type=String)
    hub_id: str = ""
    """`organisation/name` on the hub; "" for a local folder."""
    revision: str = ""
    """Branch, tag or commit asked for; "" for the hub's default branch."""
    commit: str = ""
    """The hub commit that `revision` resolved to, or the fingerprint of a local folder."""
    folder: str = ""
    """Where the files are; "" while they are not complete."""

    architecture: str = ""
    parameters: int = 0
    weight_bytes: int = 0
    context_length: int = 0
    """Longest sequence the model was made for, in tokens; 0 while unknown."""
    licence: str = ""
    description: str = ""
    chat_template: bool = False
    added_at: float = Field(default_factory=time.time)

    serve_context_length: int | None = None
    """Longest sequence served, in tokens; None for the model's own, as far as memory allows."""
    kv_cache_bytes: int | None = None
    """None for the settings' value."""
    dtype: str = "auto"
    quantization: str | None = None
    """Quantization applied while loading; None for what the files say."""
    eager: bool = True
    engine_args: dict[str, EngineArg] = Field(default_factory=dict, sa_type=JSON)
    """Further engine arguments, from the list in `serving`."""
    pinned: bool = False
    """Whether it stays on its device once it is loaded."""

    download_state: DownloadState = Field(default="none", sa_type=String)
    download_bytes: int = 0
    """What the whole download takes; 0 while unknown."""
    download_error: str = ""


class Variant(SQLModel, table=True):
    """Another name for a model, with defaults of its own; without any it is an alias."""

    __tablename__ = "variants"

    name: str = Field(primary_key=True)
    model: str = Field(foreign_key="models.name", ondelete="CASCADE")
    system: str = ""
    """System prompt of chats that bring none."""
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """Sampling options of requests that don't set them, by their names in `SamplingOptions`."""
    context_length: int | None = None
    """Tokens that prompt and answer may have together; None for all that the model holds."""
    added_at: float = Field(default_factory=time.time)


class SeededModel(SQLModel, table=True):
    """A name the seed file has offered: it is never offered again, also when its model was removed."""

    __tablename__ = "seeded_models"

    name: str = Field(primary_key=True)


class Conversation(SQLModel, table=True):
    """A chat. `model` is a name, not a key: the conversation outlives the model."""

    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_updated_at", "updated_at"),)

    id: int = Field(default=None, primary_key=True)
    title: str = ""
    model: str = ""
    system: str = ""
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """Sampling options last used."""
    created_at: float = Field(default_factory=time.time)
    updated_at: float = Field(default_factory=time.time)


class Figures(SQLModel):
    """What was measured of an answer; None on other turns."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    ttft_s: float | None = None
    switch_s: float | None = None
    switch_reason: str | None = None
    tokens_per_s: float | None = None
    duration_s: float | None = None
    finish_reason: str | None = None
    queue_s: float | None = None


class Message(Figures, table=True):
    """One turn."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("ix_messages_conversation_id_position", "conversation_id", "position", unique=True),
    )

    id: int = Field(default=None, primary_key=True)
    conversation_id: int = Field(foreign_key="conversations.id", ondelete="CASCADE")
    position: int = 0
    """Place in the conversation, from 0; the catalog assigns it."""
    role: Role = Field(sa_type=String)
    content: str = ""
    model: str = ""
    created_at: float = Field(default_factory=time.time)
    error: str = ""

    versions: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    """All versions of an answer, by the names of `VERSIONED`; empty where there was never but one."""
    version: int = 0
    """Which of them counts; its values are those of the columns too, and the columns' are the newer ones."""
    compared: bool = False
    """Whether the versions are answers of several models that were asked at once."""

    def as_version(self) -> dict[str, Any]:
        """What makes this answer another than its other versions."""
        return self.model_dump(include=VERSIONED)


VERSIONED = {"content", "model", "created_at", "error", *Figures.model_fields}


class Preset(SQLModel, table=True):
    """A system prompt and sampling options to choose for a conversation."""

    __tablename__ = "presets"

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    system: str = ""
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Swap(SQLModel, table=True):
    """One swap-in, phase by phase."""

    __tablename__ = "swaps"
    __table_args__ = (Index("ix_swaps_started_at", "started_at"),)

    id: int = Field(default=None, primary_key=True)
    model: str
    worker: str = ""
    device: str = ""
    started_at: float = Field(default_factory=time.time)
    from_residency: str = ""
    """Where the weights came from: "disk" or "host"."""
    woken: bool = False
    """Whether a worker that held the model asleep woke it; else it was loaded."""
    evicted: list[str] = Field(default_factory=list, sa_type=JSON)
    """Names of the models that made room."""
    wait_s: float = 0.0
    """Waited for room and for a worker, evictions included."""
    configure_s: float = 0.0
    create_s: float = 0.0
    """Engine core and device set up, up to the first weight."""
    weights_s: float = 0.0
    kv_cache_s: float = 0.0
    attach_s: float = 0.0
    """What the client, and the way there and back, took on top of the worker."""
    total_s: float = 0.0
    """All of the above: from the first request for the model until it served, or failed."""
    device_bytes: int = 0
    """Weights and KV cache put on the device."""
    worker_start_s: float = 0.0
    """What its worker's own start took, from its process to warm."""
    outcome: SwapOutcome = Field(default="ok", sa_type=String)
    error: str = ""


class Request(SQLModel, table=True):
    """One generation request, from any door."""

    __tablename__ = "requests"
    __table_args__ = (Index("ix_requests_received_at", "received_at"),)

    id: int = Field(default=None, primary_key=True)
    request_id: str = Field(unique=True)
    model: str
    conversation_id: int | None = None
    """None for an API client; not a key, so that figures outlive the conversation."""
    received_at: float = Field(default_factory=time.time)
    accept_s: float = 0.0
    """From arrival until its model was asked for: checks, and the user's turn stored."""
    queue_s: float = 0.0
    """Waited for its turn, for room or for a worker."""
    switch_s: float = 0.0
    """Waited, after that, while the model was loaded or woken."""
    switch_reason: str = ""
    ttft_s: float | None = None
    """From arrival to the first token, both waits included; None without one."""
    decode_s: float | None = None
    """From the first token to the last; None without one."""
    first_tokens: int = 0
    """Tokens that came with the first; the others took `decode_s`."""
    longest_gap_s: float | None = None
    """The longest pause between two tokens; None if all came at once."""
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    duration_s: float = 0.0
    finish_reason: str = ""
    """ "stop" or "length" of a complete answer, "abort" of one that was stopped, "error" of a failed one."""
    error: str = ""


class ApiKey(SQLModel, table=True):
    """A key of the API and of the page; of the key itself only its digest is kept."""

    __tablename__ = "api_keys"

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    prefix: str
    """How the key begins, to tell it from others."""
    digest: str = Field(unique=True)
    scope: KeyScope = Field(default="chat", sa_type=String)
    """"admin" may do all that "chat" may."""
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    """Of prompts and answers together, in a day of UTC."""
    concurrency: int | None = None
    created_at: float = Field(default_factory=time.time)
    last_used_at: float | None = None
    day: int = 0
    """The day of UTC that `day_tokens` are of, counted from 1970-01-01."""
    day_tokens: int = 0


class SignIn(SQLModel, table=True):
    """A browser that has shown a key; it holds a random token, of which this has the digest."""

    __tablename__ = "sign_ins"

    digest: str = Field(primary_key=True)
    key_id: int = Field(foreign_key="api_keys.id", ondelete="CASCADE")
    expires_at: float
