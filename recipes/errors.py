"""Exceptions of this package.

RecipeError
├── RecipeSyntaxError      the text is not a recipe; the message names file, line and field
├── LayerPathError         a layer path that does not parse or names layers that the checkpoint lacks
├── CheckpointError        a checkpoint that is missing, incomplete, unsafe or incompatible
│   └── CheckpointChanged  its files differ from those that were planned
├── BuildError             the build failed (error in mergekit, disk full, ...)
└── ArtifactError          an artifact that is missing or differs from its manifest
    └── ArtifactChanged    its files differ from those that were built
"""


class RecipeError(Exception):
    """Base of all errors of this package; the message is one sentence: what is wrong, where, and the next step."""


class RecipeSyntaxError(RecipeError):
    """The text is not a recipe."""


class LayerPathError(RecipeError):
    """The layer path does not parse, or names layers that the checkpoint does not have."""


class CheckpointError(RecipeError):
    """The checkpoint is missing, incomplete, unsafe or incompatible."""


class CheckpointChanged(CheckpointError):
    """The checkpoint's files differ from those that were planned."""


class BuildError(RecipeError):
    """The recipe is valid, but building it failed."""


class ArtifactError(RecipeError):
    """The artifact is missing or differs from its manifest."""


class ArtifactChanged(ArtifactError):
    """The artifact's files differ from those that were built."""
