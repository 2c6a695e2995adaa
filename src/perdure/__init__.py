"""Perdure keeps services answering on a team's own machines; the reader's path starts in `perdure.cli`."""

__version__ = "0.1.0"
