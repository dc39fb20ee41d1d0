-- What became of each alert on each route of the relay: held until when, sent, skipped and why.

CREATE TABLE IF NOT EXISTS deliveries
(
    alert_id UUID,
    route LowCardinality(String) COMMENT 'of the relay; empty where no route matches',
    outcome LowCardinality(String) COMMENT 'held, sent or skipped',
    at DateTime64(6, 'UTC') COMMENT 'when that became of it',
    reason String COMMENT 'why it is held or was skipped',
    attempts UInt64 COMMENT 'how often it was offered to the receiver',
    reminders UInt64 COMMENT 'sent since the alert itself',
    due_at Nullable(DateTime64(6, 'UTC')) COMMENT 'when it is sent; once it was, when the next reminder is',
    kind LowCardinality(String) COMMENT 'of the alert',
    emitted_at Nullable(DateTime64(6, 'UTC')) COMMENT 'of the alert',
    budget_id LowCardinality(String) COMMENT 'empty where no account is concerned',
    account String COMMENT 'empty where no account is concerned',
    subject Map(LowCardinality(String), String) COMMENT 'dimension: value',
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record',
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record',
    incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it'
)
ENGINE = ReplacingMergeTree
ORDER BY (alert_id, route, at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every record of what became of an alert on a route, in its steps. The latest of each: deliveries_now';

-- The order is ClickHouse's and the topic's. The relays of a route may have had clocks of their own.
CREATE OR REPLACE VIEW deliveries_now DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.alert_id AS alert_id,
    of.route AS route,
    tupleElement(of.latest, 1) AS outcome,
    tupleElement(of.latest, 2) AS at,
    of.sent_at AS sent_at,
    tupleElement(of.latest, 3) AS reason,
    tupleElement(of.latest, 4) AS attempts,
    tupleElement(of.latest, 5) AS reminders,
    tupleElement(of.latest, 6) AS due_at,
    of.kind AS kind,
    of.emitted_at AS emitted_at,
    of.budget_id AS budget_id,
    of.account AS account,
    of.subject AS subject
FROM
(
    SELECT
        alert_id,
        route,
        argMax((outcome, at, reason, attempts, reminders, due_at), (stored_at, offset)) AS latest,
        minIf(toNullable(at), outcome = 'sent') AS sent_at,
        any(kind) AS kind,
        any(emitted_at) AS emitted_at,
        any(budget_id) AS budget_id,
        any(account) AS account,
        any(subject) AS subject
    FROM deliveries
    GROUP BY alert_id, route
) AS of
COMMENT 'What became of each alert on each route: the latest of both counts';
