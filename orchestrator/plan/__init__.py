"""Planning: turns a sweep into candidates, benchmarks and jobs with their resource needs."""
