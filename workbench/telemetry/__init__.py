"""Logs now; metrics and traces belong here too."""
