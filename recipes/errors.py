"""What can be wrong with a recipe or a checkpoint.

RecipeError
├── RecipeSyntaxError      the text is not a recipe: file, line and field are in the message
├── LayerPathError         a layer path that does not parse or leaves the checkpoint's layers
├── CheckpointError        a checkpoint that is missing, incomplete, unsafe or of another architecture
├── BuildError             the build itself failed (mergekit refused, disk full, ...)
└── ArtifactError          an artifact on disk that is not what its manifest says
"""


class RecipeError(Exception):
    """Base of all errors of this package; the message is one sentence that says what, where and the next step."""


class RecipeSyntaxError(RecipeError):
    """The text is not a recipe."""


class LayerPathError(RecipeError):
    """The layer path does not parse, or names layers that the checkpoint does not have."""


class CheckpointError(RecipeError):
    """The checkpoint is missing, incomplete, unsafe or does not fit."""


class BuildError(RecipeError):
    """The recipe is sound but building it failed."""


class ArtifactError(RecipeError):
    """An artifact on disk is not what its manifest says."""
