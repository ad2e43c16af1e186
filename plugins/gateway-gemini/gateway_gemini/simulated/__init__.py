"""The parts of Gemini's simulator; `generate` serves a simulator of Vertex AI as well."""
