"""The files of releases, on this machine, below `releases/` of the state directory.

`files` implements the port. For packing, `selecting` finds what the `patterns` name, `packing` reads until nothing
changes any more, `links` looks where links lead, `objects` keeps each content once, `manifest` the list. `laying` makes
the directory of a release, `retaining` removes what nobody needs. `rooms` says where all of it lies.
"""
