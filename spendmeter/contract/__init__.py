"""What crosses Kafka: the shared language of producers, stream and sinks. Pure: no I/O, no clock.

Read in this order: money, times, wire, usage, budget, window, matching, charge, total, signal, alert,
dead_letter, topics, records.
"""
