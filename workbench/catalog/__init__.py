"""The catalog: models, conversations, swaps and requests in SQLite, and downloads from the hub.

Import from the modules: `store.Catalog`, `downloads.Downloads`, `inspection.inspect_folder`, `tables`.
"""
