"""Layer paths, mergekit recipes, checkpoints and built artifacts. Imports no other package of this project."""
