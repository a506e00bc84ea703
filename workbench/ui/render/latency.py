"""The Latency page's live panels."""


def no_requests() -> str:
    """Before the first request."""
    return '<p class="empty">No requests yet. Send a message, and its times show here.</p>'
