"""Sweeps become plans: candidates, benchmarks, jobs, and what they need."""
