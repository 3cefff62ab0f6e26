"""Recipe: a mergekit document (one or many stages) or a base with a layer path; canonical form; digest.

refs        how checkpoints are named            methods     the merge methods as data
node        a value and its place in the file    settings    numbers, gradients, filters
reader      one document -> Stage                checks      what mergekit refuses late, refused early
documents   a file -> stages or a layer path     order       which stage is built when
normal      the normal form of a stage           identity    canonical text and digest
depth       output layers; is it a layer path?   recipe      Recipe, which holds it together
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
