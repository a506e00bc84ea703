-- Keys of the API and of the page: only digests are kept. AUTOINCREMENT: what still runs in the name of a key
-- that is revoked must not be taken for a new one's.
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    requests_per_minute INTEGER,
    tokens_per_day INTEGER,
    concurrency INTEGER,
    created_at REAL NOT NULL,
    last_used_at REAL,
    day INTEGER NOT NULL,
    day_tokens INTEGER NOT NULL
);

CREATE TABLE sign_ins (
    digest TEXT PRIMARY KEY NOT NULL,
    key_id INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    FOREIGN KEY (key_id) REFERENCES api_keys (id) ON DELETE CASCADE
);
