"""Code that runs on a node: builds, and engines that serve evaluations."""
