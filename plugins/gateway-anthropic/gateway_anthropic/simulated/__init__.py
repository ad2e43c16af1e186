"""Parts of the simulator of Anthropic."""
