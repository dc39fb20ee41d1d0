"""What crosses Kafka: the shared language of producers, stream and sinks. Pure: no I/O, no clock.

Read in this order: money, wire, usage, budget, total, signal, alert, decision, dead_letter, topics, records,
signing.
"""
