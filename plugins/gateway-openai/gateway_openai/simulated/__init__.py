"""The parts of OpenAI's simulator: what a chat model answers, which lines are refused, how objects look on the wire."""
