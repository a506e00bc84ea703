"""Side-by-side measurements; each module prints a table, or one line of JSON with `--json`."""
