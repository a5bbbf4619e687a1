"""The one place that builds: process-lifetime things, and the configuration in force.

House       what lives as long as the process (`house.py`)
Generation  the configuration in force, built whole and closed whole (`generation.py`)
Builders    the only place that names concrete classes (`builders.py`)
Reloader    from one generation to the next (`reload.py`)
Tasks       the owner of every task no request owns (`tasks.py`)
Clock       the two clocks (`clock.py`)
"""
