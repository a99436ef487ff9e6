"""Training recipes: each a function that returns a full configuration."""

from .catalogue import RECIPES, recipe_named
from .configuration import TrainingRecipe
from .settings import with_settings

__all__ = ["RECIPES", "TrainingRecipe", "recipe_named", "with_settings"]
