"""``python3.11 setup …``: hands over to appliance_setup, which sits beside this file."""

import sys

from appliance_setup.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
