"""What must survive of a service: copies of it, made, kept and put back by a process of its own for each service.

`client` implements the port and talks to `process`, which works with `vault`, the snapshot store, and with one module
for each kind of state: `database`, `directory` and `stream`. `difference` and `rescue` say and keep what going back
would lose, `switch` does it.
"""
