"""How an insert becomes one block: what ClickHouse keeps whole or not at all, and what a token stands for."""

_ANY_NUMBER = 1 << 40

ONE_INSERT_IS_ONE_BLOCK = {
    # Else several inserts may share a block, and the answer comes before the rows are kept.
    "async_insert": 0,
    "max_insert_threads": 1,
    "max_insert_block_size": _ANY_NUMBER,
    "min_insert_block_size_rows": _ANY_NUMBER,
    "min_insert_block_size_bytes": 0,
}
