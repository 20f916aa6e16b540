"""One engine process each: start it, probe it, tell what became of it, and leave nothing of it behind.

What it is: ``run.py`` supervises one engine (``appliance engine run NAME``), ``serve.py`` is the thin loop
over the gateway and all engines of one machine, ``guard.py`` sees to it that an engine dies whole.
What it refuses to be: in the way of a request. The gateway talks to engines directly, over their sockets.
What it costs: about 50 MB and no measurable CPU an engine, plus the guard's 10 MB.
"""
