"""The gateway of a local-first inference appliance and the rooms it needs.

What it is: one OpenAI-compatible API in front of engines that run as processes of their own.
What it refuses to be: a model runtime. Importing this package imports no torch, vllm, ctranslate2
or onnxruntime; a test holds it to that.
"""

__version__ = "0.1.0"
