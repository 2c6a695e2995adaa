"""The shell around the deciders: observe, decide, record, act."""
