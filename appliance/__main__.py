"""``python -m appliance``: the same as the ``appliance`` command."""

from appliance.cli.main import main

if __name__ == "__main__":
    main(prog_name="appliance")
