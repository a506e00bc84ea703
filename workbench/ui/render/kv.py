"""The KV cache page's live panels."""


def nothing_serves() -> str:
    """Where no model is on a device."""
    return '<p class="empty">No model serves. Ask one something, and its KV cache shows here.</p>'
