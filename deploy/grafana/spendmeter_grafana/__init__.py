"""Grafana's dashboards, made with code so that tests can hold every number on them.

python -m spendmeter_grafana DIRECTORY     # or `make grafana`: writes deploy/grafana/dashboards
"""
