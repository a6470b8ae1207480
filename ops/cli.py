"""The `freshet` command. Each command lives in a module of its own and imports what is heavy inside its function."""

import sys

import typer

from ops import erasing, items, keys, metrics_commands, models, rules
from ops.backfill import commands as backfill
from ops.bench import commands as bench
from ops.evaluation import commands as evaluate
from ops.evaluation import weights
from ops.experiments import commands as experiments
from ops.lake import commands as lake
from ops.operating import commands as operating
from ops.play import commands as play
from ops.stack import commands as stack
from ops.stack.errors import StackError
from ops.traffic import commands as traffic_commands

app = typer.Typer(
    name="freshet",
    help="A streaming-first recommendation engine: what a user did a moment ago is in the next list.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command(epilog=stack.UP_HELP)(stack.up)
app.command(epilog="Example: freshet down")(stack.down)
app.command(epilog="Example: freshet status --json | jq .ready")(stack.status)
app.command(epilog="Example: KAFKA_BROKERS=kafka:9092 freshet topics")(stack.topics)
operating.register(app)
play.register(app)
traffic_commands.register(app)
evaluate.register(app)
lake.register(app)
items.register(app)
metrics_commands.register(app)
experiments.register(app)
erasing.register(app)
weights.register(app)
keys.register(app)
rules.register(app)
models.register(app)
backfill.register(app)
bench.register(app)


def main() -> None:
    """Run the command line. Exit code 0: done, 1: could not, with the reason and the remedy, 2: wrong usage."""
    try:
        app()
    except StackError as error:
        sys.exit(f"freshet: {error}")


if __name__ == "__main__":
    main()
