"""Protocols between the control shell and the world; each docstring is a contract that every adapter and fake keeps."""
