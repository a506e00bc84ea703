-- Marks the file as a Workbench database ("WBCH").
PRAGMA application_id = 1463960392;

CREATE TABLE models (
    id INTEGER PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    source_kind TEXT NOT NULL,
    hub_id TEXT NOT NULL,
    revision TEXT NOT NULL,
    "commit" TEXT NOT NULL,
    folder TEXT NOT NULL,
    architecture TEXT NOT NULL,
    parameters INTEGER NOT NULL,
    weight_bytes INTEGER NOT NULL,
    context_length INTEGER NOT NULL,
    licence TEXT NOT NULL,
    description TEXT NOT NULL,
    chat_template BOOLEAN NOT NULL,
    added_at REAL NOT NULL,
    serve_context_length INTEGER,
    kv_cache_bytes INTEGER,
    dtype TEXT NOT NULL,
    quantization TEXT,
    eager BOOLEAN NOT NULL,
    engine_args JSON NOT NULL,
    download_state TEXT NOT NULL,
    download_bytes INTEGER NOT NULL,
    download_error TEXT NOT NULL
);

CREATE TABLE seeded_models (
    name TEXT PRIMARY KEY NOT NULL
);

-- AUTOINCREMENT: the id of a deleted conversation, maybe still open in a tab, is never given out again.
CREATE TABLE conversations (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    title TEXT NOT NULL,
    model TEXT NOT NULL,
    system TEXT NOT NULL,
    options JSON NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
);
CREATE INDEX ix_conversations_updated_at ON conversations (updated_at);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY NOT NULL,
    conversation_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at REAL NOT NULL,
    error TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_prompt_tokens INTEGER,
    ttft_s REAL,
    switch_s REAL,
    switch_reason TEXT,
    tokens_per_s REAL,
    duration_s REAL,
    finish_reason TEXT,
    FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_messages_conversation_id_position ON messages (conversation_id, position);

CREATE TABLE swaps (
    id INTEGER PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    worker TEXT NOT NULL,
    device TEXT NOT NULL,
    started_at REAL NOT NULL,
    from_residency TEXT NOT NULL,
    evicted JSON NOT NULL,
    wait_s REAL NOT NULL,
    configure_s REAL NOT NULL,
    create_s REAL NOT NULL,
    weights_s REAL NOT NULL,
    kv_cache_s REAL NOT NULL,
    attach_s REAL NOT NULL,
    total_s REAL NOT NULL,
    device_bytes INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX ix_swaps_started_at ON swaps (started_at);

CREATE TABLE requests (
    id INTEGER PRIMARY KEY NOT NULL,
    request_id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    conversation_id INTEGER,
    received_at REAL NOT NULL,
    queue_s REAL NOT NULL,
    switch_s REAL NOT NULL,
    ttft_s REAL,
    prompt_tokens INTEGER NOT NULL,
    cached_prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    duration_s REAL NOT NULL,
    finish_reason TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX ix_requests_received_at ON requests (received_at);
