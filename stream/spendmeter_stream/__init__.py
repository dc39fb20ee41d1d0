"""The stream: usage events in, totals and budget signals out.

Read in this order: state, meter/, judge/ (all pure), output_writer, processor, faust/.
"""
