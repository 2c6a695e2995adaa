"""From the TOML file to the model, with errors that name the path."""
