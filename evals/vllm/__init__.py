"""The vLLM engine: loading, shared-prefix scoring, live layer paths. Only this package imports vLLM."""
