"""The engine: the only package that imports vLLM.

`client` and `config` are for the app, `host`, `core` and `loading` for a worker; `spec` and `memory`
are free of vLLM. vLLM itself stays unmodified: everything here subclasses or calls what it exports.
"""
