"""What `freshet lake sql` can read: a view for each table, and some that analysts would write again and again."""

from flows.lake.tables import TABLES, TIME, LakeTable

_JSON = frozenset({"context", "experiments", "degraded", "attributes", "relaxed"})

DERIVED = {
    "items": """
        select * exclude (removed, n) from (
            select *, row_number() over (partition by item_id order by ts desc, kafka_offset desc) as n
            from items_history
        ) where n = 1 and not removed""",
    "slates": """
        select date, ts, request_id, user_id, surface, (n - 1)::integer as position, items[n] as item_id,
            scores[n] as score, sources[n] as sources, propensities[n] as propensity, features[n] as features,
            model, model_version, experiments, degraded, session_id, device
        from (select *, unnest(range(1, len(items) + 1)) as n from impressions)""",
    "labels": """
        select date, ts, example_id, request_id, user_id, surface, (n - 1)::integer as position,
            items[n] as item_id, labels[n] as label, outcomes[n] as outcome, propensities[n] as propensity,
            model_version, experiments, reason
        from (select *, unnest(range(1, len(items) + 1)) as n from examples)
        where labels[n] >= 0""",
    "outcomes": """
        select slates.* exclude (features, sources), sources, label, outcome, labelled_at
        from slates left join (
            select request_id, position, max(label) as label, arg_max(outcome, (label, ts)) as outcome,
                min(ts) as labelled_at
            from labels where request_id is not null group by all
        ) using (request_id, position)""",
    "users": """
        select user_id, min(ts) as first_ts, max(ts) as last_ts, count(*) as events,
            count(distinct date) as active_days
        from events group by user_id""",
}
"""Name -> query. Each may use those before it."""

DESCRIPTIONS = {
    "events": "valid events, each once; `value` is a number, `value_text` what an undo takes back",
    "impressions": "slates as served: lists by position, what scored each item, model, experiment arms",
    "examples": "what attribution made of slates: a label and an outcome by position; -1: told by another example",
    "rejected": "events that were refused: field, reason and where the original is in Kafka",
    "items_history": "each change of the catalogue",
    "items": "the catalogue as it is now",
    "slates": "one row for each item shown: position from 0",
    "labels": "one row for each label that was learned from",
    "outcomes": "slates with the label and the outcome of each item; null while attribution waits",
    "users": "first and last event of each user, events, days with events",
}


def view_name(table: LakeTable) -> str:
    """Return the name of the view of a table's rows."""
    return "items_history" if table.name == "items" else table.name


def base_view(table: LakeTable, paths: list[str]) -> str:
    """Return the statement that makes a table's view: its columns in any case, also with no file yet.

    Files that are older than a column lack it. Times are UTC, without a time zone.
    """
    typed = ", ".join(f"null::{_sql_type(table, name)} as {name}" for name in table.schema.names)
    rows = f"select {typed} where false"
    if paths:
        files = ", ".join(_quoted(path) for path in paths)
        laid_out = ", ".join(f"'{name}': {_sql_type(table, name)}" for name in table.partition_by)
        options = f", hive_types = {{{laid_out}}}" if laid_out else ", hive_partitioning = false"
        rows += f" union all by name select * from read_parquet([{files}], union_by_name = true{options})"  # noqa: S608 - own names
    columns = ", ".join(_column(table, name) for name in table.schema.names)
    return f"create view {view_name(table)} as select {columns} from ({rows})"  # noqa: S608 - own names


def derived_views() -> list[str]:
    """Return the statements that make the other views."""
    return [f"create view {name} as {query}" for name, query in DERIVED.items()]


def _column(table: LakeTable, name: str) -> str:
    if table.columns.get(name) == TIME:
        return f"{name}::timestamp as {name}"
    return f"{name}::json as {name}" if name in _JSON else name


def _sql_type(table: LakeTable, name: str) -> str:
    return sql_type(table.schema.field(name).type)


def sql_type(kind: object) -> str:
    """Return DuckDB's name of an Arrow type."""
    from arro3.core import DataType

    assert isinstance(kind, DataType)
    if DataType.is_list(kind):
        assert kind.value_type is not None
        return f"{sql_type(kind.value_type)}[]"
    return next(name for name, known in _TYPES.items() if known == kind)


def _types() -> dict[str, object]:
    from arro3.core import DataType

    return {
        "varchar": DataType.string(),
        "integer": DataType.int32(),
        "bigint": DataType.int64(),
        "double": DataType.float64(),
        "float": DataType.float32(),
        "boolean": DataType.bool(),
        "date": DataType.date32(),
        "timestamptz": TIME,
    }


_TYPES = _types()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


assert {view_name(table) for table in TABLES} | set(DERIVED) == set(DESCRIPTIONS)
