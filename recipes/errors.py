"""What can be wrong with a recipe or a checkpoint.

RecipeError
├── RecipeSyntaxError      the text is not a recipe: file, line and field are in the message
├── LayerPathError         a layer path that does not parse or leaves the checkpoint's layers
├── CheckpointError        a checkpoint that is missing, incomplete, unsafe or of another architecture
│   └── CheckpointChanged  its files are others than those that were planned
├── BuildError             the build itself failed (mergekit refused, disk full, ...)
└── ArtifactError          an artifact on disk that is not there, or not what its manifest says
    └── ArtifactChanged    its files are others than those that were built
"""


class RecipeError(Exception):
    """Base of all errors of this package; the message is one sentence that says what, where and the next step."""


class RecipeSyntaxError(RecipeError):
    """The text is not a recipe."""


class LayerPathError(RecipeError):
    """The layer path does not parse, or names layers that the checkpoint does not have."""


class CheckpointError(RecipeError):
    """The checkpoint is missing, incomplete, unsafe or does not fit."""


class CheckpointChanged(CheckpointError):
    """The checkpoint's files are others than those that were planned."""


class BuildError(RecipeError):
    """The recipe is sound but building it failed."""


class ArtifactError(RecipeError):
    """An artifact on disk is not there, or not what its manifest says."""


class ArtifactChanged(ArtifactError):
    """The artifact's files are others than those that were built."""
