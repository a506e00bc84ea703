CREATE TABLE variants (
    name TEXT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE,
    system TEXT NOT NULL,
    options JSON NOT NULL,
    context_length INTEGER,
    added_at REAL NOT NULL
);
