"""The engine on transformers: the reference for the others, and the one that runs where vLLM does not."""
