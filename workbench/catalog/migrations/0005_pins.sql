-- Whether the model stays on its device once it is loaded.
ALTER TABLE models ADD COLUMN pinned BOOLEAN NOT NULL DEFAULT 0;
