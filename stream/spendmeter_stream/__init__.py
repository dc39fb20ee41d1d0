"""The stream: usage events in, totals and budget signals out.

Read in this order: meter, openings, judge, crossings (all pure), changelog, store, drain, processor, app.
"""
