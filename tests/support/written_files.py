"""A recipe as text, and how tests read one."""

from recipes.recipe import Recipe

SLERP = """
models:
  - model: org/a
  - model: org/b
merge_method: slerp
base_model: org/a
parameters:
  t: 0.5
"""


def recipe(text: str) -> Recipe:
    return Recipe.parse(text, origin="r.yaml")
