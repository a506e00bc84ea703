"""Conversations: what is kept of them, and how their turns are answered."""
