"""The stream: usage events in, totals and budget signals out.

Read in this order: meter (pure), judge (pure), changelog, store, drain, processor, app.
"""
