"""Resolves recipes: each to its flat stages, or all their problems at once."""

from collections.abc import Iterable

from drp.errors import Problem, RecipeError
from drp.project import Project
from drp.recipe.axes import plain
from drp.recipe.binding import check_params
from drp.recipe.drafting import Drafting
from drp.recipe.drafts import Drafts
from drp.recipe.expand import Expansion
from drp.recipe.limits import Prices, check_currency
from drp.recipe.read import Document, read
from drp.recipe.stages import Recipe, Stage


def resolve_all(project: Project, only: Iterable[str] = ()) -> dict[str, Recipe]:
    """Every recipe (or those named), resolved; RecipeError with the problems of all of them at once."""
    params, problems = read(project.params, "params.yaml")
    resolver = _Resolver(project, params)
    recipes = {name: resolver.recipe(name) for name in only or project.recipes()}
    if found := [*(problems or check_params(params)), *resolver.problems()]:
        raise RecipeError(found)
    return recipes


class _Resolver:
    """Resolves the recipes of a project, each once."""

    def __init__(self, project: Project, params: Document) -> None:
        models = params.data.get("models") if isinstance(params.data, dict) else {}
        self.project, self.prices = project, Prices(params)
        self.models = models if isinstance(models, dict) else {}
        self.drafting = Drafting(project, self.models)
        self._recipes: dict[str, Recipe] = {}

    def problems(self) -> list[Problem]:
        """Those of every recipe that was looked at."""
        return [problem for drafts in self.drafting.done.values() for problem in drafts.problems]

    def recipe(self, name: str) -> Recipe:
        """The recipe, resolved as far as its problems allow."""
        if name not in self._recipes:
            self._recipes[name] = self._resolved(self.drafting.draft(name))
        return self._recipes[name]

    def _resolved(self, drafts: Drafts) -> Recipe:
        expansion = Expansion(self.project, self.models, self.prices, drafts)
        for draft in drafts.ordered():
            if draft.owner == drafts.name:
                expansion.expand(draft)
            elif stage := self._parents_stage(drafts, draft.name):
                expansion.take(stage)
        recipe = Recipe(drafts.name, str(drafts.data.get("description", "")), expansion.stages, plain(drafts.axes))
        check_currency(drafts, recipe.own())
        return recipe

    def _parents_stage(self, drafts: Drafts, name: str) -> Stage | None:
        """A stage of that name, of the first parent that has one. (None has, where a parent has axes: that is refused.)"""
        recipes = map(self.recipe, drafts.parents)
        return next((recipe.stages[name] for recipe in recipes if name in recipe.stages), None)
