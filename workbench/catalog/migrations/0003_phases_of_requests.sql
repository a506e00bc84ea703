-- What a switch began with, and what starting a process for it would have cost.
ALTER TABLE swaps ADD COLUMN woken BOOLEAN NOT NULL DEFAULT 0;
ALTER TABLE swaps ADD COLUMN worker_start_s REAL NOT NULL DEFAULT 0;
UPDATE swaps SET woken = 1
    WHERE from_residency = 'host' OR (outcome = 'ok' AND create_s = 0 AND kv_cache_s = 0);

-- The life of a request, phase by phase. Until now the queue counted the switch, too.
ALTER TABLE requests ADD COLUMN switch_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN decode_s REAL;
ALTER TABLE requests ADD COLUMN first_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN longest_gap_s REAL;
UPDATE requests SET queue_s = queue_s - switch_s WHERE queue_s >= switch_s;
