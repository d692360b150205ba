"""Language models: load, adapt, trim, generate, serve."""
