"""Builds recipes: stages that only copy layers by copying bytes, all others by mergekit in a separate process; or streams them.

build             builds a recipe, stage by stage, into one checkpoint directory
process           client of the mergekit process: requests, progress, failures
mergekit_worker   the mergekit process; with the modules of live merges the only one that imports mergekit
live              live merges: the tensors of the build, without files
mergekit_tensors  mergekit in this process, for live merges
repeated_work     what live merges of one search would compute again and again
sparsification    masks of task vectors from kept orders and draws
arithmetic        three of mergekit's kernels in fewer passes
vocabulary        whether a stage that sets a tokenizer keeps its sources' vocabulary
kept              tensors that live merges keep, bounded in bytes
source_pool       open weight files, shared by all live merges of a process
stage_inputs      what the stages of a recipe read: directories, checkpoints, documents
"""

from recipes.merge.build import BuildOptions, BuildProgress, build
from recipes.merge.live import MergedWeights, StoredWeights
from recipes.merge.mergekit_worker import merge_methods
from recipes.merge.process import MergekitProcess

__all__ = [
    "BuildOptions",
    "BuildProgress",
    "MergedWeights",
    "MergekitProcess",
    "StoredWeights",
    "build",
    "merge_methods",
]
