"""The parts of the simulator: Cloud Storage (`objects`, `uploads`) and the jobs API (`jobs`, `filters`, `results`)."""
