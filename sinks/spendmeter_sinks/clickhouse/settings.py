"""Settings of the ClickHouse sink."""

from pydantic import Field, model_validator

from spendmeter.settings import ClickHouseSettings

# With its defaults, an engine cuts an insert into blocks of this many rows and drops the second
# block of a token as a repeat of the first: rows would be lost without an error. The insert settings also
# request one block (writer.py); this bound holds even where a server's profile overrules them.
ROWS_OF_ONE_BLOCK = 65_536


class SinkSettings(ClickHouseSettings):
    """`SPENDMETER_SINK_…`, next to what every process reads."""

    component: str = "clickhouse-sink"
    sink_linger_ms: int = Field(default=200, ge=0, le=60_000)
    """How long a record may wait for others before it is inserted; a full batch never waits."""
    sink_max_batch_rows: int = Field(default=50_000, ge=1, lt=ROWS_OF_ONE_BLOCK)
    sink_max_batch_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    """Bytes of the records' values per batch; a batch belongs to one topic-partition."""
    sink_max_buffered_bytes: int = Field(default=128 * 1024 * 1024, ge=1)
    """Bytes of the records' values over all partitions; the rest stays in Kafka."""
    sink_insert_threads: int = Field(default=4, ge=1, le=64)
    sink_insert_timeout_seconds: int = Field(default=60, ge=1)
    sink_instance: str | None = None
    """Kafka's group.instance.id: a name that this process keeps across restarts and no other process has.

    With it a restarted sink gets its partitions back at once, not after the session timeout.
    """

    @model_validator(mode="after")
    def _a_batch_fits_the_buffer(self) -> "SinkSettings":
        if self.sink_max_batch_bytes > self.sink_max_buffered_bytes:
            raise ValueError(
                "SPENDMETER_SINK_MAX_BATCH_BYTES is larger than SPENDMETER_SINK_MAX_BUFFERED_BYTES"
            )
        return self
