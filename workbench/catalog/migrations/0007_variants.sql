CREATE TABLE variants (
    name TEXT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    system TEXT NOT NULL,
    options JSON NOT NULL,
    context_length INTEGER,
    added_at REAL NOT NULL,
    FOREIGN KEY (model) REFERENCES models (name) ON DELETE CASCADE
);
