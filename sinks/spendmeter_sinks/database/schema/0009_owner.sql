-- Whose history this is. Two systems in one database would be added up as one.

CREATE TABLE IF NOT EXISTS owner
(
    generation UInt64 COMMENT 'rises with each owner; the highest counts',
    topic_prefix String COMMENT 'SPENDMETER_TOPIC_PREFIX of the system whose sinks write here',
    since DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY generation
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The system that this database belongs to, and those before it';
