"""The transformers engine: the reference for the vLLM engine, and its replacement where vLLM does not run."""
