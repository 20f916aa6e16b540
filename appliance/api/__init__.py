"""HTTP in and out.

What it is: OpenAI's surface: validation, authentication, envelopes, streaming.
What it refuses to be: a place that knows engines. It hands ``pipeline`` a request and a sink.
"""
