"""The engine on vLLM, and the only place that imports it: loading, shared-prefix scoring, live layer paths."""
