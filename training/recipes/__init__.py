"""Training recipes: each a full configuration."""

from .configuration import TrainingRecipe
from .named import RECIPES, recipe_named
from .settings import with_settings

__all__ = ["RECIPES", "TrainingRecipe", "recipe_named", "with_settings"]
