"""A recipe's page: what it is, what it scores, how to repeat it."""

from dashboard.pages.recipe.page import show

__all__ = ["show"]
