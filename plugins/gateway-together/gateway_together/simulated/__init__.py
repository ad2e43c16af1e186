"""Parts of the simulator of Together."""
