"""The runner: processes of this host, started, watched, and ended with all their children.

`process.Processes` implements the port; around it `spawn` and `launcher` start one process, `group` knows which
processes belong to it, `listening` its sockets, `logs` its output, `environment` what it is given, `stat` how the
kernel names it.
"""
