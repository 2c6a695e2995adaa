"""The simulated world: virtual time, fake adapters, faults, checkers. Start with `run`, which plays one seed."""
