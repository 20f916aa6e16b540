"""Measuring instruments: load, speech and their statistics. They talk HTTP and never import the appliance."""
