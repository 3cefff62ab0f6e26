"""WHEN and WHERE: sweeps, plans, jobs on Ray, and the store that remembers everything."""
