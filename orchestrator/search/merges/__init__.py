"""Search over merge parameters."""
