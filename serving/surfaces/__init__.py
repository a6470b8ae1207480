"""The surfaces: one file each, which only declares. A new one is a new file and a line here."""

from serving.pipelines.pipeline import Pipeline
from serving.surfaces import because, home, popular, search, session, similar, trending
from serving.surfaces.parts import Parts


def declare(parts: Parts) -> dict[str, Pipeline]:
    """Return name -> pipeline."""
    pipelines = [
        surface(parts)
        for surface in (
            because.because,
            home.home,
            popular.popular,
            search.search,
            session.session,
            similar.similar,
            trending.trending,
        )
    ]
    return {pipeline.surface: pipeline for pipeline in pipelines}
