"""Load, faults and rivals: what measures Perdure from outside. Start with `load` and `app`."""
