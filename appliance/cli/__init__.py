"""Thin commands over the rooms: parse, call, print, exit.

What it refuses to be: a place for logic. Each command imports its room only when it runs, so that
``appliance --version`` answers in a tenth of a second.
"""
