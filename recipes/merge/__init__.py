"""Builds recipes: stages that only copy layers by copying bytes, all others by mergekit in a separate process.

build             builds a recipe, stage by stage, into one checkpoint directory
process           client of the mergekit process: requests, progress, failures
mergekit_worker   the mergekit process; the only module that imports mergekit
"""

from recipes.merge.build import BuildOptions, BuildProgress, build
from recipes.merge.mergekit_worker import merge_methods
from recipes.merge.process import MergekitProcess

__all__ = ["BuildOptions", "BuildProgress", "MergekitProcess", "build", "merge_methods"]
