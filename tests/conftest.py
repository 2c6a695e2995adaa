"""Shared fixtures and options of all tests."""

import signal

import hypothesis
import pytest

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

# A shell starts what it runs in the background with SIGINT ignored, and whatever the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-transcripts", action="store_true", help="write what the scenarios do now into their transcripts"
    )
    parser.addoption(
        "--rewrite-docs", action="store_true", help="write the pages that are generated from the source anew"
    )
