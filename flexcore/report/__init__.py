"""Values to text: lmstat and its JSON, debug-log lines (observed-formats.md).

Nothing here asks anything: whoever has the values calls, with the clock and the zone as arguments.
"""
