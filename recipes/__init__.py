"""WHAT to build: layer paths, mergekit recipes, checkpoints and the artifacts they become. A leaf package."""
