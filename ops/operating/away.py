"""What Kafka and Redis raise when they do not answer, for the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

_AWAY = "Is it running? freshet doctor tells what is wrong."


@contextmanager
def telling_what_is_away() -> Iterator[None]:
    """Turn it into a `StackError`, which is told with its remedy."""
    from confluent_kafka import KafkaException
    from redis import RedisError

    from ops.lag import NotCaughtUpError
    from ops.lake.query import LakeError
    from ops.stack.errors import StackError
    from state.store import StoreUnavailableError

    try:
        yield
    except KafkaException as error:
        raise StackError(f"Kafka: {error.args[0].str()}", _AWAY) from error
    except (NotCaughtUpError, StoreUnavailableError, LakeError, RedisError) as error:
        raise StackError(str(error), _AWAY) from error
