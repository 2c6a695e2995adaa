"""Detect: failure is noticed. Plain functions from evidence to belief, no I/O."""
