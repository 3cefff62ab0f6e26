"""Recipes: mergekit documents (one or many stages) or a base with a layer path; canonical form and digest.

recipe      Recipe, the entry point              refs        references to checkpoints
documents   recipe file -> stages or layer path  reader      one document -> Stage
node        a value with its place in the file   settings    parameters: numbers, gradients, filters
stage       records of a merge stage             methods     table of the merge methods
vocabulary  tokenizer settings                   checks      errors that mergekit reports only while merging
order       build order of stages                filters     filters compared with tensor names
normal      normal form of a stage               identity    canonical text and digest
depth       number of output layers, layer paths
"""

from recipes.recipe.documents import PathOf
from recipes.recipe.methods import METHODS, BasePolicy, Method
from recipes.recipe.recipe import Recipe
from recipes.recipe.refs import ModelRef, SourceKind, SourceRef
from recipes.recipe.stage import Remark, Stage

__all__ = [
    "METHODS",
    "BasePolicy",
    "Method",
    "ModelRef",
    "PathOf",
    "Recipe",
    "Remark",
    "SourceKind",
    "SourceRef",
    "Stage",
]
