"""The nouns of Perdure: frozen, without I/O, known to every other layer. Start with `service` and `replica`."""
