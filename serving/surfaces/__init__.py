"""The surfaces: one file each, which only declares. A new one is a new file and a line here."""

from serving.pipelines.pipeline import Pipeline
from serving.surfaces import home, popular, similar, trending
from serving.surfaces.parts import Parts


def declare(parts: Parts) -> dict[str, Pipeline]:
    """Return name -> pipeline."""
    pipelines = [surface(parts) for surface in (home.home, popular.popular, similar.similar, trending.trending)]
    return {pipeline.surface: pipeline for pipeline in pipelines}
