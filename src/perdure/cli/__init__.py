"""The command line; it asks the daemon through the API."""
