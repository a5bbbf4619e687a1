"""Telemetry: what the process says about itself, without saying too much.

Its nouns:

    open_logs, get_logger   logging of this process (`logs.py`); RequestLog is its fast path
    LineWriter              the thread that writes (`writer.py`), into sinks (`sinks.py`)
    Redactor                what may stand in a line (`redaction.py`)
    Metrics                 every metric there is (`metrics.py`)
"""
