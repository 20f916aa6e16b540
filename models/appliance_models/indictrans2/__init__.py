"""IndicTrans2 without remote code: configuration, tokenizer, text processor, PyTorch module and CTranslate2 converter.

What it is: everything between a sentence of one of 25 tags (or English) and the model's ids, and back.
What it refuses to be: a server (that is ``appliance.hosts``) or a document splitter; it works on sentences.
What it costs: importing this package loads nothing; ``model``, ``generate`` and ``convert`` load torch.
"""
