"""GPU kernels, each beside its plain-torch reference with the same signature.

What it is: ``beam_topk`` and ``beam_attention``. Importing this package imports nothing; Triton is loaded when a kernel
first runs, and where it is missing, or there is no GPU, the reference runs instead.
What it refuses to be: a library of kernels that others write better (attention, norms, matrix products).
"""
