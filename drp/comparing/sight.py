"""A state of the project, and the recipes of it that are looked at."""

from dataclasses import dataclass

from drp.lineage.graph import Graph, Node


@dataclass(frozen=True)
class Sight:
    """`name` is how people call the state; `recipes` are compared with those of another; `others` only this state has, run or
    not."""

    name: str
    graph: Graph
    recipes: list[str]
    others: tuple[str, ...] = ()

    def datasets(self, stage: str | None) -> list[Node]:
        """What is compared: the stages of that name, or what the recipes are for."""
        if stage is None:
            return list({n.address: n for recipe in self.recipes for n in self.graph.datasets(recipe)}.values())
        involved = self.graph.above(node for node in self.graph.nodes.values() if node.recipe in self.recipes)
        return [n for n in involved if n.base and stage in (n.address, n.slug, n.name)]

    def of_other(self, recipe: str, stage: str | None) -> list[Node]:
        """The same of a recipe that only this state has."""
        if stage is None:
            return self.graph.datasets(recipe)
        own = [node for node in self.graph.nodes.values() if node.recipe == recipe]
        return [n for n in own if n.base and stage in (n.address, n.slug, n.name)]

    def reports(self) -> list[Node]:
        """The stages that report metrics."""
        return [node for node in self.graph.nodes.values() if node.report and node.recipe in self.recipes]
