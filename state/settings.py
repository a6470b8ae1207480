"""The one configuration object: read from the environment at entry points only, then passed down."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting and its default. Each is read from `FRESHET_<NAME>`, brokers and Redis from the usual names."""

    model_config = SettingsConfigDict(env_prefix="FRESHET_", frozen=True, extra="ignore")

    kafka_brokers: str = Field("127.0.0.1:9092", validation_alias=AliasChoices("KAFKA_BROKERS", "kafka_brokers"))
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias=AliasChoices("REDIS_URL", "redis_url"))
    namespace: str = Field(
        "", pattern=r"^[a-z0-9-]{0,32}$", description="keeps topics and keys of several systems apart"
    )
    partitions: int = Field(4, ge=1, le=4096, description="of every topic that is partitioned by user")
    flow_partitions: Annotated[tuple[int, ...], NoDecode] = Field(
        (), description="those that this flow process reads, as in `0,1`; none: see the next two"
    )
    flow_processes: int = Field(
        1, ge=1, le=4096, description="of this flow, each of which reads every so many-th partition; else one reads all"
    )
    flow_index: int = Field(0, ge=0, description="which of them this one is, from 0")
    instance: str = Field(
        "0",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="tells processes of one flow apart; the same after a restart, so that it need not wait for itself",
    )
    home: Path = Field(
        Path(".freshet"), description="where the local stack keeps logs, Kafka's log and recovery stores"
    )
    data: Path | None = Field(None, description="folder of a data set")
    attribution_wait_s: float = Field(600, gt=0, description="a slate without a positive is negative after this")
    attribution_window_s: float = Field(1800, gt=0, description="an outcome belongs to a slate at most this much older")
    learn_organic_share: float = Field(
        0.06, ge=0, description="of the learner's time for lists made at positives that no request explains"
    )
    learn_replay_share: float = Field(0.03, ge=0, description="of the learner's time for learning past pairs again")
    drift_share: float = Field(
        1.0, ge=0, le=1, description="of the labelled lists in which the learner looks for drift; 0: none"
    )
    on_drift: Literal["nothing", "register", "promote", "take-over"] = Field(
        "nothing",
        description="what a challenger, learned by the local stack when the stream drifts, may do; nothing: none is",
    )
    on_drift_rest_s: float = Field(
        21_600, ge=0, description="after such a challenger, alarms are not answered for so long"
    )
    lake: str | None = Field(
        None, description="folder or URL (s3://bucket/path; credentials from AWS_*) of the lake; none: in `home`"
    )
    models: str | None = Field(
        None,
        description="folder or URL (s3://bucket/path; credentials from AWS_*) of the model registry; none: in `home`",
    )
    lake_delay_s: float = Field(30, gt=0, description="rows are in the lake after this, or sooner when there are many")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=256, description="serving processes")
    api_keys: Path | None = Field(
        None, description="file of hashed API keys (`freshet keys`); needed unless only this machine can call"
    )
    rate_limit: float = Field(0, ge=0, description="calls a second of a key without a rate of its own; 0: any number")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins of pages that may call from browsers, as in `https://shop.example`; `*`: all"
    )
    request_budget_ms: float = Field(
        80, gt=0, le=600_000, description="a list's time: stages that it does not suffice for are skipped"
    )
    spool_mib: int = Field(
        256, ge=1, description="of impressions that a serving process keeps on disk while Kafka does not take them"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    flow_metrics_port: int = Field(
        0, ge=0, le=65503, description="Prometheus metrics of each flow: here, or on the next free one of 32; 0: none"
    )
    flow_metrics_host: str = "127.0.0.1"
    traces: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "traces"),
        description="base URL of an OTLP/HTTP receiver, as in `http://127.0.0.1:4318`; none: nothing is traced",
    )
    trace_share: float = Field(
        0.01, ge=0, le=1, description="of requests that are traced, where their caller has not decided (`traceparent`)"
    )

    @field_validator("flow_partitions", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("traces", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None  # as where compose passes on what is not set

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        if self.flow_index >= self.flow_processes:
            raise ValueError(f"flow_index {self.flow_index}: expected less than flow_processes, {self.flow_processes}")
        if not self.flow_partitions and self.flow_processes > self.partitions:
            raise ValueError(
                f"flow_processes {self.flow_processes}: at most one for each of the {self.partitions} partitions"
            )
        return self

    @property
    def own_partitions(self) -> tuple[int, ...]:
        """Partitions of the topics keyed by user that a flow of this process reads."""
        return self.flow_partitions or tuple(range(self.flow_index, self.partitions, self.flow_processes))

    @property
    def lake_root(self) -> str:
        """Where the lake's tables are: an absolute folder, or a URL. Each namespace has a lake of its own."""
        return self._root(self.lake or str(self.home / "lake"))

    @property
    def models_root(self) -> str:
        """Where the registry of models is: an absolute folder, or a URL. Each namespace has one of its own."""
        return self._root(self.models or str(self.home / "models"))

    def _root(self, root: str) -> str:
        root = root.rstrip("/") if "://" in root else str(Path(root).resolve())
        return f"{root}/{self.namespace}" if self.namespace else root

    def ready_file(self, flow: str) -> Path:
        """Return the file in which a flow's process says, by its id, that it has begun to read."""
        return self.home / "ready" / f"{self.group_id(flow)}-{self.instance}"

    def group_id(self, flow: str) -> str:
        """Return a flow's Kafka consumer group."""
        return "-".join(part for part in ("freshet", self.namespace, flow) if part)
