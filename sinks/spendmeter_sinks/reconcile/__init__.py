"""The reconciler: recorded events, stream totals, signals and history, compared to the nano-dollar.

Read in this order: sequences, eras, scope, totals, recount, signals, evidence, report (all pure), then
history and positions (the edges), run, command.
"""
