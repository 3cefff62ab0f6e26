"""Builds recipes: copies by moving bytes, everything that computes by mergekit in a process of its own.

build     a recipe, stage by stage, into one checkpoint directory
process   the mergekit process as seen from outside: requests, progress, failures
engine    what runs in it; the only importer of mergekit
"""

from recipes.merge.build import BuildOptions, BuildProgress, build
from recipes.merge.mergekit_worker import merge_methods
from recipes.merge.process import MergekitProcess

__all__ = ["BuildOptions", "BuildProgress", "MergekitProcess", "build", "merge_methods"]
