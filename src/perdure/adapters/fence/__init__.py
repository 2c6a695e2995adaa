"""The fence: a small process that ends an active replica at its deadline, whatever has become of the daemon.

In the daemon `client.ProcessFence` implements the port, in the process that `__main__` starts runs `supervisor`; they
meet only in the files of `record`. `docs/internals/fence.md` tells why it is as it is.
"""
