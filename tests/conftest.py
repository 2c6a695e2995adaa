"""Shared fixtures and options of all tests."""

import hypothesis
import pytest

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-transcripts", action="store_true", help="write what the scenarios do now into their transcripts"
    )
    parser.addoption(
        "--rewrite-docs", action="store_true", help="write the pages that are generated from the source anew"
    )
