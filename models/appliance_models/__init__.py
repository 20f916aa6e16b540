"""Models as data: a catalogue of what may be installed, and a store that installs it whole or not at all.

What it refuses to be: an importer of other people's code. Wheels are archives here, read with zipfile.
"""
