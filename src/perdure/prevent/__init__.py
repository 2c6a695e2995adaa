"""Prevent: failure does not matter, because replicas and retries stand in. Plain deciders, no I/O."""
