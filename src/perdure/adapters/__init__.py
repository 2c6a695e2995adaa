"""Adapters: each port of `perdure.ports` on real parts."""
