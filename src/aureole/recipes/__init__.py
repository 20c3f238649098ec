"""Ready configurations: Python functions that return frozen dataclasses. They hold settings, never logic."""

from aureole.recipes.catalogue import RECIPES, Recipe, find_recipe

__all__ = ["RECIPES", "Recipe", "find_recipe"]
