"""The reconciler: recorded events, stream totals, signals and history, compared to the nano-dollar.

Read in this order: sequences, budget_history, scope, totals, replay, signals, evidence, report (all pure),
then history and kafka_reader (the edges), run, command.
"""
