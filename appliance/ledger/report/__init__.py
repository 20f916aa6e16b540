"""Reports: what a month cost for each resolved conversation, and everything behind it.

What it is: ``build`` reads a month into a ``Report``; ``page`` makes one HTML file of it, ``tables`` a CSV file.
What it refuses to be: a guess. An input that is not set is named on the page, with the command that sets it.
What it costs: reading is SQL sums and columns of numbers; matplotlib is loaded for the page alone.
"""

from appliance.ledger.report.compose import build
from appliance.ledger.report.traffic import Slo, slos_of
from appliance.ledger.report.values import Report

__all__ = ["Report", "Slo", "build", "slos_of"]
