"""What leaves this machine: the Hub, model cards, merged models, GGUF files."""
