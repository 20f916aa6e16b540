"""What stands around translation and needs no model: sentences, glossaries, memory keys, conversations. Pure."""
