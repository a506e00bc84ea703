-- Made anew with AUTOINCREMENT: an answer under way names the message it belongs to by its id, which must
-- not be given to another one when that message is deleted.
CREATE TABLE kept_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
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
    queue_s REAL,
    versions JSON NOT NULL DEFAULT '[]',
    version INTEGER NOT NULL DEFAULT 0,
    compared BOOLEAN NOT NULL DEFAULT FALSE,
    FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
INSERT INTO kept_messages (id, conversation_id, position, role, content, model, created_at, error, prompt_tokens, completion_tokens, cached_prompt_tokens, ttft_s, switch_s, switch_reason, tokens_per_s, duration_s, finish_reason)
SELECT id, conversation_id, position, role, content, model, created_at, error, prompt_tokens, completion_tokens, cached_prompt_tokens, ttft_s, switch_s, switch_reason, tokens_per_s, duration_s, finish_reason FROM messages;
DROP TABLE messages;
ALTER TABLE kept_messages RENAME TO messages;
CREATE UNIQUE INDEX ix_messages_conversation_id_position ON messages (conversation_id, position);

CREATE TABLE presets (
    id INTEGER PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    system TEXT NOT NULL,
    options JSON NOT NULL
);
