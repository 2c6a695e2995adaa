"""Recover: failure is repaired. Plain deciders, no I/O."""
