"""The embedded model: how its data is made, how it is trained and how it is exported (``make train-embedded``)."""
